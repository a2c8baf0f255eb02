"""Delete blobs that no manifest names from a local registry, while it is served.

A blob that was pushed, found by a HEAD, or named by a manifest lately stays: its client may be about to push
a manifest that names it. Manifests stay, with a tag or without.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import find_machine_error
from pusher.serve.local import LocalRegistry
from pusher.serve.manifests import read_manifest
from pusher.units import human_bytes

LEAST: Final = 3600.0
"""Seconds for which an unused blob stays at least: pushes of large images take long."""
_EVERY: Final = 3600.0
"""Seconds between two collections."""


@dataclass(frozen=True)
class Collected:
    """What was deleted; ``bytes`` of files that no repository has any more."""

    blobs: int
    bytes: int


def collect_garbage(registry: LocalRegistry, unused_for: float) -> Collected:
    """Delete the blobs that no manifest of their repository names and that were not used for ``unused_for``
    seconds. Safe while clients push. Raises OSError, sqlite3.Error."""
    before = time.time() - unused_for
    blobs = size = 0
    last = ""
    while names := registry.catalog.repositories(last, 100):
        for name in names:
            named = _named_digests(registry, name)
            for digest in registry.catalog.blobs(name):
                if digest not in named and (freed := registry.drop_unused(name, digest, before)) is not None:
                    blobs, size = blobs + 1, size + freed
        last = names[-1]
    for path in registry.blobs_folder.glob("*/*"):  # left by a crash before they had a repository
        digest = f"{path.parent.name}:{path.name}"
        if (freed := registry.drop_unused(None, digest, before)) is not None:
            blobs, size = blobs + 1, size + freed
    return Collected(blobs, size)


@contextmanager
def collecting(registry: LocalRegistry, unused_for: float, note: Callable[[str], None]) -> Iterator[None]:
    """Collect garbage now and every hour in a thread; ``note`` gets a sentence about what was deleted."""
    ending = threading.Event()

    def work() -> None:
        while True:
            try:
                found = collect_garbage(registry, unused_for)
            except (OSError, sqlite3.Error) as error:
                known = find_machine_error(error)
                note(f"Blobs without a manifest cannot be deleted: {known.message if known else error}")
            else:
                if found.blobs:
                    what = "1 blob" if found.blobs == 1 else f"{found.blobs} blobs"
                    note(f"Deleted {what} that no manifest names: {human_bytes(found.bytes)}.")
            if ending.wait(_EVERY):
                return

    thread = threading.Thread(target=work, name="garbage", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _named_digests(registry: LocalRegistry, repository: str) -> set[str]:
    """Return the digests that the manifests of a repository name."""
    named: set[str] = set()
    for digest in registry.catalog.manifests(repository):
        stored = registry.catalog.manifest(repository, digest)
        if stored is not None:
            manifest = read_manifest(stored.content, stored.media_type, digest)
            named.update(manifest.blobs, manifest.children)
    return named
