"""Retries that do not keep a test waiting."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from pusher import config
from pusher.retry import Backoff, RetryPolicy

QUICK: Final = RetryPolicy(
    step=Backoff(first=0.005, longest=0.15),
    reading=Backoff(first=0.005, longest=0.15, tries=3, offline_tries=1),
    source=Backoff(first=0.005, longest=0.02, tries=3, jitter=False),
    job_first=0.02,
    job_longest=1.2,
    job_offline=0.3,
    job_user=3.0,
    poll=0.02,
    queue_limits=0.05,
    blob_in_use=0.02,
    layer_in_use=0.02,
    not_shown=(0.01, 0.02),
    unresolved=0.3,
    rate_least=0.001,
    rate_most=0.1,
    rate_hold=0.1,
    missing=0.05,
    outage_new_repository=0.5,  # longer than some answers of a front take
)
"""About a hundredth of every pause; outages and a store that is away are waited for as long as ever."""
AT_ONCE: Final = replace(QUICK, missing=0.0, outage_new_repository=6.0)
"""A registry is believed at once that a session does not exist."""


COMMANDS: Final = replace(QUICK, unresolved=60.0, outage_new_repository=6.0)
"""As for a user: errors that a wait would turn into others stay as they are."""


def hand_in(patch: pytest.MonkeyPatch, policy: RetryPolicy = COMMANDS) -> None:
    """Let the commands that run in this process have ``policy``."""
    load = config.load
    patch.setattr(config, "load", lambda *given: replace(load(*given), retry=policy))
