"""Each reader with what failed once, valid inputs and some hundred changed ones, the same every time."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.readers import Reader, readers
from tests.fuzz.run import attempt, inputs, kept

_INPUTS = 480
"""For a quick reader; a slower one gets fewer."""
_NAMES = (
    *("reference", "place", "destination", "size", "timetable", "challenge", "warnings", "location", "log"),
    *("answer", "authfile", "toml", "document", "platform", "index", "manifest", "config", "dir", "grpc"),
    *("tar", "archive", "layer", "tarsplit"),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in readers(tmp_path_factory.mktemp("valid"))}


@pytest.mark.parametrize("name", _NAMES)
def test_an_error_is_one_of_ours_and_comes_at_once(known: dict[str, Reader], name: str) -> None:
    reader = known[name]
    for data in islice(inputs(reader, random.Random(name)), len(kept(reader)) + _INPUTS // reader.cost):
        attempt(reader, data)


@pytest.mark.parametrize("name", _NAMES)
def test_what_is_valid_is_read(known: dict[str, Reader], name: str, tmp_path: Path) -> None:
    """Else the changed inputs would fail at their first byte, and show nothing."""
    for number, data in enumerate(known[name].seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        known[name].read(data, folder)


def test_every_reader_is_tried(known: dict[str, Reader]) -> None:
    assert tuple(known) == _NAMES
