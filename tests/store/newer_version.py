"""Run a command of the next version of pusher, with one revision more:
``python -m tests.store.newer_version FOLDER OLDEST COMMAND...``

FOLDER has its migrations. OLDEST: the oldest revision whose version can use its schema.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pusher.store import migrate, schema

NEXT: str = "next"


def become_next(folder: Path, oldest: str) -> None:
    """Change the modules of this process to those of the next version."""
    schema.REVISIONS = (*schema.REVISIONS, NEXT)  # type: ignore[misc, assignment]
    schema.OLDEST = oldest  # type: ignore[misc]
    migrate.folder = lambda: folder


if __name__ == "__main__":
    from pusher.cli import main

    become_next(Path(sys.argv[1]), sys.argv[2])
    main(sys.argv[3:])
