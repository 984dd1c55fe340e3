"""The clean twins: where nothing is planted, no check says a word."""

from __future__ import annotations

import pytest

from luthier.plan.preflight import examine
from tests.preflight_bugs.house import alarms, house, pairs


@pytest.mark.parametrize("kind", ["chat", "plain", "t5"])
def test_a_clean_setup_raises_no_alarm(tmp_path, kind):
    assert alarms(house(tmp_path, kind).subject()) == {}


@pytest.mark.parametrize("train_on", ["assistant", "all"])
def test_training_on_more_than_the_answer_is_no_bug_when_the_recipe_says_so(tmp_path, train_on):
    assert alarms(house(tmp_path, "chat", data={"train_on": train_on}).subject()) == {}


def test_virtual_tokens_before_the_rows_are_no_bug(tmp_path):
    built = house(tmp_path, "plain", train={"method": {"name": "prompt", "tokens": 5}})
    assert alarms(built.subject(built.job("prompt"))) == {}


@pytest.mark.parametrize("kind", ["plain", "t5"])
def test_running_text_raises_no_alarm(tmp_path, kind):
    rows = [{"text": f"{row['prompt']} {row['completion']}"} for row in pairs()]
    built = house(tmp_path, kind, rows=rows, train={"objective": "text"})
    assert alarms(built.subject()) == {}


def test_every_finding_says_what_was_looked_at(tmp_path):
    assert all(finding.detail for finding in examine(house(tmp_path, "chat").subject()).values())
