"""Retries that do not keep a test waiting."""

from __future__ import annotations

from typing import Final

from pusher.retry import Backoff, RetryPolicy

QUICK: Final = RetryPolicy(
    step=Backoff(first=0.005, longest=0.15),
    reading=Backoff(first=0.005, longest=0.15, tries=3, offline_tries=1),
    job_first=0.02,
    job_longest=1.2,
    job_offline=0.3,
    job_user=3.0,
    poll=0.02,
    blob_in_use=0.02,
    layer_in_use=0.02,
    not_shown=(0.01, 0.02),
)
"""About a hundredth of every pause."""
