"""Texts kept as files: what a command or a display shows, compared word for word.

PUSHER_TEST_REWRITE_SNAPSHOTS=1 writes the files anew instead; read the difference before you commit it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

REWRITE = os.environ.get("PUSHER_TEST_REWRITE_SNAPSHOTS") == "1"


def check(path: Path, text: str) -> None:
    """``text`` is what the file says; or becomes it."""
    if REWRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing; write it with PUSHER_TEST_REWRITE_SNAPSHOTS=1"
    assert text == path.read_text(encoding="utf-8")


def assert_all_used(folder: Path, names: Collection[str]) -> None:
    """Every file of the folder belongs to a test."""
    left = {path.stem for path in folder.iterdir()} - set(names)
    if REWRITE:
        for name in left:
            (folder / f"{name}.txt").unlink()
    else:
        assert left == set()
