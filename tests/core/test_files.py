"""JSON that every reader takes: numbers that are none are null where they may occur, and an error elsewhere."""

from __future__ import annotations

import json
import logging
from math import inf, nan

import numpy as np
import pytest

from luthier.core.events import LOGGER, emit, recorded
from luthier.core.files import digest, finite, write_json, write_jsonl


def strict(text):
    """The value, by a reader that knows no word beyond JSON's own."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_none_become_null_wherever_they_stand():
    value = {"a": nan, "b": [1, -inf, (2.5, inf)], "c": {"d": np.float64(nan)}, "e": "nan", "f": True, "g": None}
    found = {"a": None, "b": [1, None, [2.5, None]], "c": {"d": None}, "e": "nan", "f": True, "g": None}
    assert finite(value) == found


@pytest.mark.parametrize("write", [write_json, lambda path, value: write_jsonl(path, [value])])
def test_a_number_that_is_none_and_was_not_foreseen_is_an_error_and_no_file(tmp_path, write):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "file", {"loss": nan})
    assert not (tmp_path / "file").exists()
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"loss": inf})


def test_events_are_strict(tmp_path):
    with recorded(tmp_path / "events.jsonl"):
        emit("here", "a loss", loss=nan, folder=tmp_path)
    line = strict((tmp_path / "events.jsonl").read_text())
    assert (line["loss"], line["folder"], line["level"]) == (None, str(tmp_path), "info")
    assert LOGGER.level == logging.INFO
