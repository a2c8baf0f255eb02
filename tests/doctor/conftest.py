"""The worker's registry, home and image, for the doctor's checks, too."""

from __future__ import annotations

from tests.worker.conftest import archive, home, image, origin, registry

__all__ = ["archive", "home", "image", "origin", "registry"]
