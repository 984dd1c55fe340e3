"""Planted bugs in the rows themselves: leaks between splits, a wrong encoding; and batches that mix sequences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import BloomConfig, BloomForCausalLM

from luthier.core.shards import Shard, write_shard
from luthier.engine.job import Job
from tests.preflight_bugs.house import House, alarms, house, pairs, sentence


def with_test_rows(folder: Path, rows: list[dict], **data: str) -> House:
    """A set-up whose test rows come from a file of their own."""
    path = folder / "test.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return house(folder, "plain", data={"split": {"validation": 4, "test": str(path)}, **data})


def test_exact_leak_of_training_rows_that_somebody_put_into_the_test_split(tmp_path):
    built = house(tmp_path, "plain")
    train, test = Shard(built.shards / "train"), Shard(built.shards / "test")
    records = [*test.rows, *train.rows[:2]]
    examples = [*(test[row] for row in range(len(test))), train[0], train[1]]
    write_shard(test.folder, examples, records, [0] * len(records), test.sources)
    assert alarms(built.subject()) == {"exact-leak": "error"}


def test_near_leak_of_test_rows_that_are_training_rows_with_another_full_stop(tmp_path):
    twins = [{**row, "prompt": f"{row['prompt']}."} for row in pairs()[:3]]
    assert alarms(with_test_rows(tmp_path, twins).subject()) == {"near-leak": "error"}


def test_a_near_twin_among_hundreds_is_worth_a_warning(tmp_path):
    rows = [{"prompt": sentence(9000 + i), "completion": sentence(19000 + i)} for i in range(220)]
    rows.append({**pairs()[0], "prompt": f"{pairs()[0]['prompt']}."})
    assert alarms(with_test_rows(tmp_path, rows).subject()) == {"near-leak": "warning"}


def test_rows_of_a_test_file_of_their_own_are_no_bug(tmp_path):
    assert alarms(with_test_rows(tmp_path, [{"prompt": sentence(5000), "completion": "amber"}]).subject()) == {}


def accented(rows: list[dict]) -> list[dict]:
    return [{**row, "completion": f"{row['completion']} é à ü “so” – naïve"} for row in rows]


@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_wrong_encoding_of_a_file_that_was_saved_through_another_one(tmp_path, wrong):
    def garbled(text: str) -> str:
        return text.encode().decode(wrong, errors="replace")

    rows = [{name: garbled(text) for name, text in row.items()} for row in accented(pairs())]
    assert alarms(house(tmp_path, "plain", rows=rows).subject()) == {"wrong-encoding": "error"}


def test_wrong_encoding_that_lost_its_letters(tmp_path):
    rows = [{**row, "prompt": f"caf\ufffd {row['prompt']}"} for row in pairs()]
    assert alarms(house(tmp_path, "plain", rows=rows).subject()) == {"wrong-encoding": "error"}


def test_letters_of_many_languages_are_no_bug(tmp_path):
    words = ["Spaß“, sagt sie", "SÃO é NÃO", "Ärger übt Ö", "naïve café", "čeština", "日本語", "🙂 £5 €3 Â la carte"]
    rows = [{**row, "completion": f"{words[i % len(words)]} {i * 7919}"} for i, row in enumerate(pairs())]
    assert alarms(house(tmp_path, "plain", rows=rows).subject()) == {}


def crossing(job: Job) -> Job:
    """The job with a model whose attention knows no boundaries, declared fit for packing all the same."""
    sizes = {"vocab_size": len(job.base.tokenizer), "hidden_size": 16, "n_layer": 2, "n_head": 4}
    model = BloomForCausalLM(BloomConfig(**sizes, initializer_range=0.3)).eval()

    class Deaf(BloomForCausalLM):
        """Takes position ids, and does nothing with them, as any module with **kwargs."""

        def forward(self, *args, position_ids=None, **kwargs):
            return super().forward(*args, **kwargs)

    model.__class__ = Deaf
    trainable = replace(job.computation.trainable, model=model, parameters=dict(model.named_parameters()))
    return replace(job, computation=replace(job.computation, trainable=trainable))


def test_packed_loss_other_than_unpacked_where_attention_crosses_sequences(tmp_path):
    built = house(tmp_path, "plain")
    job = built.job()
    assert job.layout.packed
    assert alarms(built.subject(crossing(job))) == {"packed-loss-differs": "error"}
    padded = replace(crossing(job), layout=replace(job.layout, packed=False))
    assert alarms(built.subject(padded)) == {}
