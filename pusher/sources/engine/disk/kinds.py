"""Name the storages of engines, for prefixes of an IMAGE."""

from __future__ import annotations

from typing import Final

DOCKER_KIND: Final = "docker-storage"
PODMAN_KIND: Final = "containers-storage"
STORAGE_KINDS: Final = (DOCKER_KIND, PODMAN_KIND)
