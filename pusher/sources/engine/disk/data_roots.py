"""Find the folders of engines' images without asking the engines."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Final

from pusher.errors import StorageDoubtful

DOCKER_ROOT: Final = Path("/var/lib/docker")
"""Docker's data root unless it is configured."""
_CONFIGS: Final = (Path("/etc/containers/storage.conf"), Path("/usr/share/containers/storage.conf"))
"""The first that exists is read (containers-storage.conf(5))."""


def is_root() -> bool:
    """Return whether this user may read the system engines' files."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def podman_root() -> tuple[Path, str | None]:
    """Return Podman's graph root for this user, and its driver if one is configured.

    From CONTAINERS_STORAGE_CONF or storage.conf, else the usual one. Raises StorageDoubtful.
    """
    root_user = is_root()
    own = os.environ.get("CONTAINERS_STORAGE_CONF")
    user = _folder("XDG_CONFIG_HOME", ".config") / "containers/storage.conf"
    candidates = [Path(own)] if own else [*([] if root_user else [user]), *_CONFIGS]
    config = next((path for path in candidates if path.is_file()), None)
    storage = _read(config) if config is not None else {}
    # the system's graphroot is root's; other users' images are where rootless_storage_path says
    theirs = root_user or config in (user, Path(own or ""))
    root = storage.get("graphroot" if theirs else "rootless_storage_path")
    driver = storage.get("driver")
    if root:
        expanded = os.path.expandvars(str(root).replace("$UID", str(os.geteuid())))
        return Path(expanded), str(driver) if driver else None
    if root_user:
        return Path("/var/lib/containers/storage"), None
    return _folder("XDG_DATA_HOME", ".local/share") / "containers/storage", None


def _read(path: Path) -> dict[str, object]:
    try:
        storage = tomllib.loads(path.read_text()).get("storage", {})
    except (OSError, ValueError) as error:
        raise StorageDoubtful(f"cannot read {path}: {error}", hint="fix or remove it") from error
    return storage if isinstance(storage, dict) else {}


def _folder(variable: str, usual: str) -> Path:
    found = os.environ.get(variable)
    return Path(found) if found else Path.home() / usual
