"""Find the credentials and certificates of Docker and Podman."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pusher.config import values

_RUN: Final = Path("/run/containers")


def docker_config(environ: Mapping[str, str]) -> Path:
    """Return Docker's ``config.json`` (docker/cli ``cli/config/config.go``)."""
    return (_path(environ, "DOCKER_CONFIG") or values.user_home() / ".docker") / "config.json"


def auth_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return Podman's ``auth.json`` in its order (containers/image ``docs/containers-auth.json.5.md``).

    As with Podman, the file that REGISTRY_AUTH_FILE names is the only one. One for the session is left out
    where its folder is closed to this user, as /run/containers is if root's Podman created it: no login of
    this user can be there, and Podman's own error about it helps nobody.
    """
    if named := _path(environ, "REGISTRY_AUTH_FILE"):
        return (named,)
    files = [_user_configuration(environ) / "containers" / "auth.json"]
    runtime = _path(environ, "XDG_RUNTIME_DIR")
    session = None
    if runtime is not None:
        session = runtime / "containers"
    elif sys.platform == "linux":
        session = _RUN / str(os.getuid())
    if session is not None and not _is_closed(session):
        files.insert(0, session / "auth.json")
    return tuple(files)


def certs_dirs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return folders with one folder per registry (containers/image ``docs/containers-certs.d.5.md``; the
    third is rootless Docker's, https://docs.docker.com/engine/security/rootless/)."""
    user = _user_configuration(environ)
    return (
        user / "containers" / "certs.d",
        Path("/etc/containers/certs.d"),
        user / "docker" / "certs.d",
        Path("/etc/docker/certs.d"),
    )


def _user_configuration(environ: Mapping[str, str]) -> Path:
    """Return the user's folder by the XDG rules, which Docker and Podman follow on macOS, too."""
    return _path(environ, "XDG_CONFIG_HOME") or values.user_home() / ".config"


def _is_closed(folder: Path) -> bool:
    """Return whether this user cannot enter the folder, which is another user's or below such a one."""
    try:
        owner = folder.stat().st_uid
    except PermissionError:
        return True
    except OSError:  # there is none yet
        return False
    return owner != os.getuid() and not os.access(folder, os.X_OK)


def _path(environ: Mapping[str, str], variable: str) -> Path | None:
    text = environ.get(variable)
    return values.parse_path(text, variable).absolute() if text else None
