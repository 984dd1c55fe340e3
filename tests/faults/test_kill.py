"""Exact resume: killed and resumed, a run ends in the same bits. `benchmarks/bench_resume.py` kills 20 times."""

import pytest

from tests.faults import kill


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    recipe = kill.write_recipe(folder)
    kill.finish(recipe, folder / "whole")
    return recipe, kill.outcome(folder / "whole")


@pytest.mark.parametrize(
    ("name", "when"),
    [("checkpoint", kill.in_checkpoint(4)), ("anywhere", kill.at(9.0))],
)
def test_killed_and_resumed_ends_in_the_same_bits(left_alone, tmp_path, name, when):
    recipe, expected = left_alone
    assert kill.run_and_kill(recipe, tmp_path / name, when), "the run ended before it could be killed"
    kill.finish(recipe, tmp_path / name)
    assert kill.outcome(tmp_path / name) == expected
