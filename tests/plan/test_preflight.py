"""What follows from the findings."""

from __future__ import annotations

import pytest

from luthier.core.errors import Refusal, UserError
from luthier.plan.finding import Finding, error, ok, warning
from luthier.plan.preflight import as_json, check_waived, decide, merge, waive
from luthier.recipe.schema import Plan

BAD, GOOD, DOUBT = error("row 3 is wrong"), ok("all rows"), warning("look at row 4")


def test_an_error_is_refused_and_the_way_round_it_named():
    with pytest.raises(Refusal, match=r"bos-doubled: row 3 is wrong.*plan\.waive: \[bos-doubled\]"):
        decide({"bos-doubled": BAD, "near-leak": DOUBT}, Plan())


def test_warnings_and_a_recipe_that_only_warns_go_on():
    decide({"near-leak": DOUBT, "bos-doubled": GOOD}, Plan())
    decide({"bos-doubled": BAD}, Plan(preflight="warn"))


def test_a_waived_error_is_a_warning_that_says_so():
    waived = waive({"bos-doubled": BAD, "near-leak": DOUBT}, ["bos-doubled", "near-leak"])
    assert waived == {"bos-doubled": Finding("warning", "waived: row 3 is wrong"), "near-leak": DOUBT}
    decide(waived, Plan())


def test_an_unknown_name_to_waive_is_mended():
    with pytest.raises(
        UserError, match=r"plan\.waive: no check is called 'bos-double': did you mean 'bos-doubled'\?"
    ):
        check_waived(["bos-double"])


def test_the_worst_of_several_variants_counts_and_is_named():
    merged = merge({"a": {"x": GOOD, "y": DOUBT, "z": GOOD}, "b": {"x": GOOD, "y": BAD, "z": DOUBT}})
    assert merged["x"] == GOOD
    assert merged["y"] == error("b: row 3 is wrong")
    assert merged["z"] == warning("b: look at row 4")
    assert merge({"a": {"y": BAD}})["y"] == BAD


def test_the_findings_in_json():
    assert as_json({"x": BAD}) == [{"check": "x", "status": "error", "detail": "row 3 is wrong"}]
