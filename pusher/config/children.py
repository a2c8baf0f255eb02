"""The environment that other programs are started with: without what is secret and not theirs."""

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
_WAY: Final = re.compile(r"(?i)_proxy$|_host$")


def for_engines() -> dict[str, str]:
    """For docker, podman and nerdctl, which read images on this machine: nothing that is called a secret,
    and no address with a password in it but those of the way to their server."""
    return {
        name: value
        for name, value in for_helpers().items()
        if (not _SECRET.search(name) or _HARMLESS.search(name))
        and (not _WITH_PASSWORD.search(value) or _WAY.search(name))
    }


def for_helpers() -> dict[str, str]:
    """For credential helpers, which need what their cloud knows the user by (``AWS_*``, ``GOOGLE_*``)."""
    return {name: value for name, value in os.environ.items() if not _OURS.match(name)}
