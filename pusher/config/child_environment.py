"""Build the environment of child processes, without secrets that they do not need."""

from __future__ import annotations

import os
import re
from typing import Final

_OURS: Final = re.compile(r"PUSHER_|PG[A-Z]+$|DOCKER_AUTH_CONFIG$|USERNAME_REGISTRY$")
"""pusher's own settings (password, URL of the database), those of PostgreSQL's library, and logins that are
written out in a variable."""
_SECRET: Final = re.compile(
    r"(?i)passw(or)?d|passphrase|secret|token|credential|(^|_)(pass|pw|pat|key|auth)$"
)
_HARMLESS: Final = re.compile(r"(?i)_(file|path|dir|sock)$|^(XDG_|SSH_)")
_WITH_PASSWORD: Final = re.compile(r"://[^\s/:@]*:[^\s/@]+@")
_CONNECTION: Final = re.compile(r"(?i)_proxy$|_host$")


def engine_environment() -> dict[str, str]:
    """Return the environment for docker, podman and nerdctl.

    They read images on this machine, so variables named like a secret are removed, and addresses with a
    password except those of proxies and of their server.
    """
    return {
        name: value
        for name, value in helper_environment().items()
        if (not _SECRET.search(name) or _HARMLESS.search(name))
        and (not _WITH_PASSWORD.search(value) or _CONNECTION.search(name))
    }


def hook_environment() -> dict[str, str]:
    """Return the environment for hooks: as for engines, and what a hook needs to call pusher itself."""
    places = {name: os.environ[name] for name in ("PUSHER_HOME", "PUSHER_CONFIG") if name in os.environ}
    return {**engine_environment(), **places}


def helper_environment() -> dict[str, str]:
    """Return the environment for credential helpers, with clouds' variables (``AWS_*``, ``GOOGLE_*``)."""
    return {name: value for name, value in os.environ.items() if not _OURS.match(name)}
