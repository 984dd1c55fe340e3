"""The tables of docs/performance.md, made from the figures: `python -m benchmarks.train.tables` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from luthier.core.files import read_json

PEERS = {"as run": "TRL as run", "tuned": "TRL tuned"}


def update(page: Path, results: Path) -> None:
    """Put each table between its markers; a table without figures stays as it is."""
    text = page.read_text(encoding="utf-8")
    for file, tables in TABLES.items():
        if (results / f"{file}.json").is_file():
            figures = read_json(results / f"{file}.json")
            for name, table in tables.items():
                text = between(text, name, table(figures))
    page.write_text(text, encoding="utf-8")


def between(text: str, name: str, table: str) -> str:
    """The text with a new table between `<!-- name -->` and `<!-- /name -->`."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    assert pattern.search(text), name
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(figures: Mapping[str, Any]) -> str:
    """Each cell's ratios, with their spread between rounds, beside what they must reach."""
    rows = []
    for found in figures["cells"]:
        goal, against, own = found["target"], found["ratios"], found["sides"]["Luthier"]
        memory, useful = f"1/{against['as run']['memory']:.2f}", f"{own['mfu']:.0%}"
        rows.append(
            [
                found["cell"],
                _verdict(found["met"]["as run"], *_speed(against["as run"]), f"{goal['as_run']:g}x"),
                _verdict(found["met"]["tuned"], *_speed(against["tuned"]), f"{goal['tuned']:g}x"),
                _verdict(found["met"]["memory"], memory, "", f"1/{goal['memory']:g}"),
                _verdict(found["met"]["mfu"], useful, "", f"{goal['mfu']:.0%}") if goal["mfu"] else useful,
            ]
        )
    start = median(found["sides"]["Luthier"]["first_step_after_seconds"] for found in figures["cells"])
    head = ["", "against TRL as run", "against tuned TRL", "peak memory", "useful share of the peak"]
    after = f"From the command to the first step, with data and plan made already: {start:.1f} s (goal: 8)."
    return f"{rows_of(head, rows)}\n\n{after}"


def _speed(ratio: Mapping[str, Any]) -> tuple[str, str]:
    low, _, high = ratio["by_round"]
    return f"{ratio['speed']:.2f}x", f" ({low:.2f} to {high:.2f} by round)"


def _verdict(met: bool, figure: str, spread: str, goal: str) -> str:
    return f"**{figure}**{spread} of {goal}, {'met' if met else 'missed'}"


def sides(figures: Mapping[str, Any]) -> str:
    """Every side of every cell."""
    rows = []
    for found in figures["cells"]:
        for name, side in found["sides"].items():
            low, high = side["quartiles"]
            rows.append(
                [
                    found["cell"],
                    _named(found, name) + (f": {side['how']}" if side["how"] else ""),
                    f"{side['tokens_per_second']:,.0f}",
                    f"{low:,.0f} to {high:,.0f}",
                    f"{side['mfu']:.0%}",
                    f"{side['peak_bytes'] / 1e9:.2f}",
                    f"{side['padding']:.0%}" if "padding" in side else "0%",
                ]
            )
    head = ["", "side", "tokens/s", "quartiles", "useful share", "peak GB", "padding"]
    return rows_of(head, rows)


def _named(found: Mapping[str, Any], side: str) -> str:
    if side == "Luthier":
        return side
    return f"{'plain loop' if found['cell'].startswith('T5') else 'TRL'}, {side}"


def equality(figures: Mapping[str, Any]) -> str:
    """The largest differences of losses."""
    rows = []
    for found in figures["cells"]:
        for pair, apart in found["losses"]["apart"].items():
            rows.append([found["cell"], pair, str(found["losses"]["steps"]), f"{apart:.1e}"])
    return rows_of(["", "losses of", "steps", "largest difference"], rows)


def breakdown(figures: Mapping[str, Any]) -> str:
    """Shares of the time of Luthier's steps, one column a cell."""
    cells = list(figures["breakdown"])
    names = list(dict.fromkeys(name for cell in cells for name in figures["breakdown"][cell]["shares"]))
    rows = [[name, *(f"{figures['breakdown'][cell]['shares'].get(name, 0):.1%}" for cell in cells)] for name in names]
    return rows_of(["share of the time", *cells], rows)


def machine(figures: Mapping[str, Any]) -> str:
    """Where and when."""
    made, settings = figures["machine"], figures["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    peaks = ", ".join(f"{found['cell']}: {median(found['matmul_peak']) / 1e9:.0f}" for found in figures["cells"])
    where = f"{made['cores']} cores ({made['architecture']}, {made['memory_gib']} GiB)"
    turns = f"{settings['rounds']} rounds of {settings['counted']} counted steps a side"
    return (
        f"Measured on {figures['day']} on {where} in {settings['minutes']} minutes: {turns}. "
        f"Matrix products in GFLOP/s, beside each cell: {peaks}. {versions}."
    )


def swept(figures: Mapping[str, Any]) -> str:
    """A row for each length or width."""
    key = "length" if "length" in figures["rows"][0] else "width"
    rows = []
    for row in figures["rows"]:
        ratio = row["ratios"]["as run"]
        speeds = [f"{row['sides'][name]['tokens_per_second']:,.0f}" for name in ("Luthier", "as run")]
        apart = f"{row['losses_apart']:.0e}"
        size = f"{row['mean_length']:.0f}" if key == "length" else str(row[key])
        rows.append([size, *speeds, f"{ratio['speed']:.2f}x", f"1/{ratio['memory']:.2f}", apart])
    head = [key, "Luthier, tokens/s", "TRL as run, tokens/s", "ratio", "peak memory", "losses apart"]
    return rows_of(head, rows)


def gpu(figures: Mapping[str, Any]) -> str:
    """Each workload on the GPU, the three sides beside each other."""
    cases: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in figures["results"]:
        if "workload" in row:
            cases.setdefault((row["size"], row["kind"], row["workload"]), {})[row["side"]] = row
    rows = []
    for (size, kind, workload), sides in cases.items():
        own = sides.get("Luthier", {}).get("tokens_per_second")
        cells = [f"{size.upper()} {kind}, {workload}"]
        for name in ("TRL default", "TRL tuned", "Luthier"):
            side = sides.get(name, {})
            speed = side.get("tokens_per_second")
            held = f"{speed:,.0f} in {side['peak_bytes'] / 1e9:.0f} GB" if speed else _why(side)
            cells.append(f"{held} ({own / speed:.2f}x)" if speed and own and name != "Luthier" else held)
        cells.append(f"{sides['Luthier']['mfu']:.0%}" if own else "-")
        rows.append(cells)
    head = ["tokens/s and peak memory", "TRL default", "TRL tuned", "Luthier", "useful share of the peak"]
    made = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items() if version != "-")
    where = f"{made['device']}, matmul peak {made['matmul_peak'] / 1e12:.0f} TFLOP/s in bf16; {versions}."
    return f"{where}\n\n{rows_of(head, rows)}"


def _why(side: Mapping[str, Any]) -> str:
    return "out of memory" if "out of memory" in side.get("error", "") else "not measured"


TABLES = {
    "train": {
        "machine": machine,
        "targets": targets,
        "sides": sides,
        "equality": equality,
        "breakdown": breakdown,
    },
    "train-lengths": {"lengths": swept},
    "train-widths": {"widths": swept},
    "train-gpu": {"gpu": gpu},
}

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    update(root / "docs" / "performance.md", root / "benchmarks" / "results")
