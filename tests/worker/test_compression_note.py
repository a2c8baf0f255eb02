"""A run of many jobs reports once how their layers are compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", compression="auto") as home:
        yield home


def test_the_same_choice_is_reported_once(home: Home, tmp_path: Path) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        for number in range(3):
            archive = write_archive(tmp_path / f"{number}.tar", make_image(5_000 + number))
            home.enqueue(archive, f"{registry.address}/app:{number}")
        assert home.run(parallel=1).exit_code == 0
    notes = [note for (note,) in home.progress.of("note") if note.startswith("compressed with ")]
    assert len(notes) == len(set(notes)) >= 1
    assert len(notes) < 3
