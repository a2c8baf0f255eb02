"""Load the modules that a worker needs before it starts to work.

Most are imported on first use, which is good for a short command. In a worker that runs for days it would mix
versions if pusher is upgraded meanwhile: the new version's modules beside those that were loaded before.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

import pusher

_NOT_NEEDED: Final = (
    "pusher.__main__",
    "pusher.cli",
    "pusher.doctor",
    "pusher.help",
    "pusher.progress",  # the display is chosen before
    "pusher.serve",
    "pusher.store.models",  # with SQLAlchemy, to create and upgrade a store
)


def load_worker() -> None:
    """Import every module that a worker may use."""
    for module in pkgutil.walk_packages(pusher.__path__, "pusher."):
        if not module.name.startswith(_NOT_NEEDED):
            importlib.import_module(module.name)
