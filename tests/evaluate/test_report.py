"""The report and the model card of a made-up run: complete, self-contained, harmless, honest."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from luthier.core.errors import UserError
from luthier.core.files import read_json, read_jsonl, write_json, write_jsonl
from luthier.evaluate.curves import read_curve
from luthier.evaluate.report import ledger, story, strengths, write_card, write_report
from luthier.evaluate.report.read import read_run
from luthier.evaluate.report.samples import choose, groups
from tests.evaluate.fake_run import build_run

VOID = {"meta", "br", "hr", "img", "link", "input"}
POISON = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Checks that tags nest, and collects ids, links, tags and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("runs") / "dialogue-summariser-3f2a", rows=60)


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page(write_report(run_folder).read_text())


def test_the_first_screen_says_what_was_done_and_how_sure_it_is(page: Page, run_folder: Path) -> None:
    scores = read_json(run_folder / "5-evaluate" / "scores.json")
    assert "builtin:t5 (2.69M parameters) was fine-tuned on 3,620 rows in 3 ways (full, lora and prompt)" in page.text
    assert "full is the best variant, better than the model it started from." in page.text
    figures = f"ROUGE-L {scores['full']['rougeL']['value']:.3f} against {scores['base']['rougeL']['value']:.3f}"
    assert f"Better than the base on 60 unseen rows: {figures}; the true gain lies between +" in page.text


def test_what_was_expected_is_nobodys_in_particular(page: Page) -> None:
    """References may be generated themselves."""
    assert "the expected answer's wording" in page.text and " expected " in page.text
    assert not re.search(r"\bhuman\b", page.text)


def test_a_method_that_did_not_help_is_said_in_words(page: Page) -> None:
    assert re.search(r"prompt – ROUGE-L [\d.]+, below full by more than chance explains\. It did not beat", page.text)
    assert "Soft prompts are known to need models of a billion parameters" in page.text


def test_every_section_is_there_and_linked(page: Page) -> None:
    ids = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    links = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    expected = {"scores", "comparisons", "curves", "answers", "plan", "data", "preflight", "reproduce"}
    assert ids == links == expected
    assert "4 test rows are 0.81 to 0.84 like a training row" in page.text
    assert "near-duplicate" in page.text.lower() and "luthier run RUN/recipe.yaml --out again" in page.text


def test_the_page_is_one_file_that_asks_for_nothing(page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "img", "base")]
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("href", "src", "action"):
            assert str(attrs.get(name, "#")).startswith("#")
    assert "url(" not in " ".join(page.words) and "@import" not in " ".join(page.words)


def test_tables_have_headers_and_charts_have_names(page: Page) -> None:
    count = sum(tag == "table" for tag, _ in page.tags)
    assert sum(tag == "caption" for tag, _ in page.tags) == count > 8
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")


def test_rows_cannot_put_markup_into_the_page(tmp_path: Path) -> None:
    text = write_report(build_run(tmp_path / "run", rows=9, poison=POISON)).read_text()
    assert "<script" not in text and "<img" not in text
    assert Page(text).text.count(POISON) == 1 + len(read_run(tmp_path / "run").scores)  # the input and every answer


@pytest.mark.parametrize(("upto", "absent"), [(0, "data, model, plan, training and evaluation"), (3, "training and")])
def test_stages_that_were_not_run_are_left_out_and_said(tmp_path: Path, upto: int, absent: str) -> None:
    run = build_run(tmp_path / "run", upto=upto)
    found = Page(write_report(run).read_text())
    assert f"Not in this run: {absent}" in found.text
    assert "Nothing has been evaluated yet" in found.text
    assert "Nothing has been evaluated yet" in write_card(run).read_text()


def test_trained_but_not_evaluated_shows_the_curves(tmp_path: Path) -> None:
    found = Page(write_report(build_run(tmp_path / "run", upto=4)).read_text())
    ids = {attrs["id"] for tag, attrs in found.tags if tag == "section"}
    assert "curves" in ids and "scores" not in ids


def test_a_best_variant_that_beats_nothing_is_not_called_better(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rows=9)
    path = run / "5-evaluate" / "comparisons.json"
    nothing = {"difference": 0.0, "low": -0.1, "high": 0.1, "p": 0.9}
    write_json(path, [{**c, **nothing} for c in read_json(path)])
    text = Page(write_report(run).read_text()).text
    assert "is the best variant, but not shown to be better than the model it started from" in text
    assert "Not shown to differ from the base" in text and "Only 9 test rows" in text


def test_a_best_variant_that_loses_to_a_baseline_is_said_to(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rows=9)
    path = run / "5-evaluate" / "comparisons.json"
    worse = {"difference": -0.2, "low": -0.3, "high": -0.1}
    write_json(path, [{**c, **worse} if c["b"] == "lead" else c for c in read_json(path)])
    text = Page(write_report(run).read_text()).text
    assert "full is the best variant, better than the model it started from, but not than lead." in text
    assert "Worse than the input's first sentences: −0.300 to −0.100." in text


def test_a_checkpoint_of_step_0_and_skipped_steps_are_warned_of(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", upto=4)
    path = run / "4-train" / "lora" / "result.json"
    write_json(path, {**read_json(path), "best_step": 0, "skipped_steps": [3], "spikes": [41, 57]})
    text = Page(write_report(run).read_text()).text
    assert "lora is the untrained model" in text and "not a number: 3" in text
    assert "lora met 2 steps, the first at 41, whose loss or gradient lay far above" in text


def test_losses_that_were_no_numbers_are_told_of_and_left_out_of_the_curve(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", upto=4)
    path = run / "4-train" / "lora" / "metrics.jsonl"
    validation = {"step": 5, "validation": {"loss": None}, "best": False}
    write_jsonl(
        path, [{**line, "loss": None} if line["step"] == 3 else line for line in read_jsonl(path)] + [validation]
    )
    curve = read_curve(path.parent)
    assert curve["train"][2] == {"step": 3, "loss": None} and curve["validation"][-1] == {"step": 5, "loss": None}
    text = Page(write_report(run).read_text()).text
    assert "lora is unstable: the loss was not a number at step 3." in text


def test_every_stage_and_export_is_in_the_table_of_costs(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", rows=12)
    for export, took in (("adapter", 7.0), ("merged", 11.0)):
        sealed = folder / "6-deploy" / "lora" / export / "manifest.json"
        sealed.parent.mkdir(parents=True)
        write_json(sealed, {**read_json(folder / "5-evaluate" / "manifest.json"), "seconds": took})
    facts = read_run(folder)
    table = {row["name"]: row for row in ledger.costs(facts)}
    trained = [f"Train {name}" for name in ("full", "lora", "prompt")]
    exports = ["Deploy lora adapter", "Deploy lora merged"]
    assert list(table) == ["Data", "Model", "Plan", *trained, "Evaluate", *exports, "All stages"]
    assert (table["Deploy lora adapter"]["time"], table["Deploy lora merged"]["time"]) == ("7.0 s", "11.0 s")
    assert facts.seconds == pytest.approx(21.4 + 1.8 + 9.7 + 71.2 + 64.9 + 58.3 + 34.5 + 7 + 11)


def test_near_duplicates_that_were_not_looked_for_are_not_counted(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", upto=1)
    path = run / "1-data" / "card.json"
    body = read_json(path)
    body["near_duplicates"]["rows"] = body["leaks"]["near"] = None
    write_json(path, body)
    text = Page(write_report(run).read_text()).text
    assert "Near-duplicates" not in text and "0 exact" in text


def test_a_run_of_losses_alone_has_no_answers(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rows=9)
    evaluated = run / "5-evaluate"
    for path in (evaluated / "answers").glob("*"):
        path.unlink()
    summary = read_json(evaluated / "summary.json")
    write_json(evaluated / "summary.json", {**summary, "select": "perplexity", "best": "full"})
    found = Page(write_report(run).read_text())
    assert "answers" not in {attrs["id"] for tag, attrs in found.tags if tag == "section"}
    assert "Better than the base on 9 unseen rows: Perplexity" in found.text


def test_something_else_than_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        write_report(tmp_path)


def test_samples_are_the_best_the_median_and_the_worst(run_folder: Path) -> None:
    facts = read_run(run_folder)
    chosen = choose(facts)
    assert [sample["kind"] for sample in chosen] == ["best"] * 4 + ["median"] * 4 + ["worst"] * 4
    values = sorted((row["scores"]["rougeL"] for row in facts.answers["full"]), reverse=True)
    shown = [sample["answers"][0]["scores"]["rougeL"] for sample in chosen]
    assert shown == values[:4] + values[28:32] + values[-4:]
    assert {answer["name"] for answer in chosen[0]["answers"]} == set(facts.scores)


@pytest.mark.parametrize("count", [*range(0, 15), 200])
def test_no_row_is_shown_twice(count: int) -> None:
    places = [place for _, found in groups(count) for place in found]
    assert len(places) == len(set(places)) and set(places) <= set(range(count))
    assert count < 12 or len(places) == 12
    assert count == 0 or {0, count - 1} <= set(places)


def test_the_card_has_the_hubs_front_matter(run_folder: Path) -> None:
    text = write_card(run_folder).read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == "builtin:t5" and front["license"] == "apache-2.0"
    assert front["datasets"] == ["builtin:dialogues"] and "rouge" in front["metrics"]
    scores = read_json(run_folder / "5-evaluate" / "scores.json")["full"]
    values = {m["name"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert values["ROUGE-L"] == round(scores["rougeL"]["value"], 4)
    assert '4-train/full/model")' in text and "lora, rank 8; 118,784 parameters" in text


def test_an_adapter_is_loaded_onto_its_base(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", rows=9)
    summary = read_json(run / "5-evaluate" / "summary.json")
    write_json(run / "5-evaluate" / "summary.json", {**summary, "best": "lora"})
    text = write_card(run).read_text()
    assert "library_name: peft" in text and "PeftModel.from_pretrained(base" in text


def _slice(metric: str, values: dict[str, float], differences: dict[str, tuple[float, float, float]]) -> dict:
    scores = {name: {"value": v, "low": v - 0.02, "high": v + 0.02, "n": 50} for name, v in values.items()}
    compared = [
        {"a": name, "b": "base", "metric": metric, "difference": d, "low": low, "high": high, "p": 0.01, "n": 50}
        for name, (d, low, high) in differences.items()
    ]
    return {"metric": metric, "rows": 50, "scores": scores, "comparisons": compared}


def test_who_is_good_at_what_and_what_each_forgot(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    assert read_run(run).by_source == {} and 'id="strengths"' not in write_report(run).read_text()
    differences = {"full": (0.7, 0.6, 0.8), "lora": (0.75, 0.7, 0.8)}
    sums = _slice("exact_match", {"base": 0.1, "full": 0.8, "lora": 0.85}, differences)
    general = _slice("loss", {"base": 1.0, "full": 1.5}, {"full": (0.5, 0.4, 0.6)})
    write_json(run / "5-evaluate" / "by_source.json", {"sums": sums})
    write_json(run / "5-evaluate" / "forgetting.json", general)
    facts = read_run(run)
    table = strengths.table(facts, dict.fromkeys(facts.subjects, "red"))
    assert table is not None
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    assert set(rows) == {"base", "full", "lora"}
    gained, lost = rows["full"]
    assert (gained["mood"], gained["change"], gained["best"]) == ("good", ("+0.700", "+0.600 to +0.800"), False)
    assert rows["lora"][0]["best"] and rows["lora"][1] is None
    assert (lost["mood"], lost["change"], lost["best"]) == ("bad", ("+0.500", "+0.400 to +0.600"), False)
    page = write_report(run).read_text()
    assert "Best of all on sums." in next(r["text"] for r in story.remarks(facts) if r["name"] == "lora")
    assert "Who is good at what, and what each forgot" in Page(page).text and 'href="#strengths"' in page
    assert "| full | 0.800 (+0.600 to +0.800) | 1.50 (+0.400 to +0.600) |" in write_card(run).read_text()
