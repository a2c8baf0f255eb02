"""The worker's registry, image and quick retries, for the doctor's checks, too."""

from __future__ import annotations

from tests.worker.conftest import _impatient, archive, home, image, origin, registry

__all__ = ["_impatient", "archive", "home", "image", "origin", "registry"]
