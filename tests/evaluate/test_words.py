"""What the report says in words."""

from __future__ import annotations

import pytest

from luthier.evaluate.report import words

ROUGE = {"label": "ROUGE-L", "higher_is_better": True}
LOSS = {"label": "Loss", "higher_is_better": False}


def _compared(low: float | None, high: float | None) -> dict:
    middle = None if low is None or high is None else (low + high) / 2
    return {"a": "full", "b": "base", "difference": middle, "low": low, "high": high, "detectable": 0.04}


def test_a_gain_is_told_with_its_interval() -> None:
    told = words.statement(_compared(0.46, 0.52), (0.61, 0.12), ROUGE, 0.95, "200 unseen rows")
    assert told == (
        "Better than the base on 200 unseen rows: ROUGE-L 0.610 against 0.120; "
        "the true gain lies between +0.460 and +0.520 with 95% confidence."
    )


def test_a_lower_loss_is_better() -> None:
    told = words.statement(_compared(-0.5, -0.3), (1.6, 2.0), LOSS, 0.9, "50 rows")
    assert told.startswith("Better than the base on 50 rows: Loss 1.60 against 2.00")
    assert words.better(_compared(0.3, 0.5), higher_is_better=False) is False


def test_an_interval_that_holds_zero_shows_nothing() -> None:
    told = words.statement(_compared(-0.01, 0.03), (0.13, 0.12), ROUGE, 0.95, "200 unseen rows")
    assert told.startswith("Not shown to differ from the base")
    assert "could see a difference of 0.040 or more" in told


def test_two_that_are_level_on_every_row_are_said_to_be() -> None:
    told = words.statement(_compared(0.0, 0.0), (0.0, 0.0), ROUGE, 0.95, "8 unseen rows")
    assert told == (
        "Not shown to differ from the base on 8 unseen rows: ROUGE-L 0.000 against 0.000; the two are level on every "
        "single row."
    )


def test_too_few_rows_for_an_interval_show_nothing() -> None:
    assert words.better(_compared(None, None), True) is None
    assert "too few rows to tell" in words.statement(_compared(None, None), (1.0, 0.0), ROUGE, 0.95, "1 row")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.6123, "0.612"), (1.0, "1.000"), (12.345, "12.35"), (432.1, "432.1"), (12345.6, "12,346"), (-0.5, "−0.500")],
)
def test_numbers_have_the_digits_that_matter(value: float, expected: str) -> None:
    assert words.number(value) == expected


def test_units() -> None:
    assert [words.seconds(s) for s in (8.34, 252.4, 7500)] == ["8.3 s", "4 min 12 s", "2 h 05 min"]
    assert [words.money(m) for m in (0, 0.00001, 0.0073, 12.3)] == ["$0.00", "under $0.0001", "$0.0073", "$12.30"]
    assert [words.size(b) for b in (640 * 2**20, 1.5 * 2**30)] == ["640 MiB", "1.50 GiB"]
    assert [words.signed(d) for d in (0.46, -0.012, 0.0)] == ["+0.460", "−0.012", "0.000"]
    assert words.listed(["a", "b", "c"]) == "a, b and c"
