"""Charts are well-formed, place values where the scale says, and cannot carry foreign markup."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from luthier.evaluate.report import bars, charts, svg


def test_ticks_are_round_numbers_within_the_range() -> None:
    assert svg.ticks(0, 1) == [0, 0.5, 1.0]
    assert svg.ticks(0.9, 5.1, 5) == [1, 2, 3, 4, 5]
    assert svg.ticks(0, 240, 5) == [0, 50, 100, 150, 200]
    assert svg.ticks(3, 3) == [3]


def test_scale_is_linear() -> None:
    scale = svg.Scale(10, 20, 0, 100)
    assert [scale(v) for v in (10, 15, 20)] == [0, 50, 100]


def test_a_line_goes_through_its_points() -> None:
    drawn = charts.lines([charts.Line("loss", [(0, 2.0), (10, 1.0)], "red")], "Curve", "step", (1.0, 2.0))
    root = ElementTree.fromstring(drawn)
    path = next(e for e in root.iter("path") if e.get("class") == "line strong" and "L" in (e.get("d") or ""))
    assert path.get("d") == "M40.0 12.0L346.0 184.0"  # the top left and the bottom right of the plot


def test_points_that_are_no_number_are_left_out() -> None:
    drawn = charts.lines([charts.Line("loss", [(0, 2.0), (5, float("nan")), (10, 1.0)], "red")], "Curve", "step")
    assert "nan" not in drawn.split("<desc>")[1].split("</desc>")[1]


def test_bars_are_as_high_as_their_counts() -> None:
    drawn = charts.histogram({"input": [(0, 1), (10, 4), (20, 2)]}, "Lengths", "tokens", "red")
    heights = [float(e.get("height", 0)) for e in ElementTree.fromstring(drawn).iter("rect")]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.3) and heights[2] == pytest.approx(
        2 * heights[0], abs=0.2
    )


def test_an_interval_bar_without_interval_is_a_dot() -> None:
    drawn = bars.interval_bar(0.5, None, None, (0, 1), "x", "red")
    assert 'class="range"' not in drawn and "<circle" in drawn


def test_every_chart_has_a_title_and_text_is_escaped() -> None:
    evil = '<script>alert("x")</script>'
    for drawn in (
        charts.lines([charts.Line(evil, [(0, 1.0), (1, 2.0)], "red")], evil, evil),
        charts.histogram({evil: [(0, 1)]}, evil, evil, "red"),
        bars.interval_bar(0.5, 0.4, 0.6, (0, 1), evil, "red"),
        bars.ladder([bars.Rung(evil, 0.5, 0.4, 0.6, "red")], evil),
    ):
        root = ElementTree.fromstring(drawn)
        assert "<script" not in drawn
        assert root.get("role") == "img" and root.get("aria-label") and root.find("title") is not None


def test_a_curve_without_points_is_nothing() -> None:
    assert charts.lines([charts.Line("loss", [], "red")], "Curve", "step") == ""
