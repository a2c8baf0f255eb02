"""Decide when to retry a failed step: after which errors, after what pause, and how often.

``retrying`` is the loop, ``RetryPolicy`` holds every pause and limit. Blobs, manifests and downloads are
retried a few times; after that their job waits, for ``RetryPolicy.job_pause``. For a registry's answer,
``registry.answers.refusal`` decides whether it is retried; its error has the result.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeVar

from pusher.dataclass import dataclass
from pusher.errors import PusherError, Retry

T = TypeVar("T")

LONGEST_WAIT: Final = 3600.0
"""Seconds for which a job waits at most, whatever Retry-After says."""


@dataclass(frozen=True)
class Backoff:
    """Pauses in seconds that double from ``first`` to ``longest``, with full jitter if ``jitter`` is set.

    The caller gives up after ``tries`` pauses in a row, None: never; after ``offline_tries`` if the registry
    cannot be reached. Those bridge a changed address; after that all blobs of a job wait together.
    """

    first: float = 0.5
    longest: float = 15.0
    tries: int | None = 6
    offline_tries: int | None = 3
    jitter: bool = True


@dataclass(frozen=True)
class RetryPolicy:
    """All pauses and limits of retries, in seconds.

    A run has one policy, ``Settings.retry``; tests use shorter pauses.
    """

    step: Backoff = Backoff()
    """One step of a job: sending or fetching a blob, pushing a manifest."""
    reading: Backoff = Backoff(tries=3, offline_tries=1)
    """Reading an image's manifests from a registry while a user waits."""
    source: Backoff = Backoff(first=0.25, longest=1.0, tries=10, jitter=False)
    """An engine that is away while a blob is read from it and sent: shorter than registries wait for the rest
    of a chunk, and than what is reported as silence; longer than a Docker daemon takes to restart."""
    job_first: float = 2.0
    """The pause of a job after its first failure; it doubles with each failure in a row."""
    job_longest: float = 120.0
    """The longest pause of a job."""
    job_offline: float = 30.0
    """The longest pause of a job whose registry cannot be reached."""
    job_user: float = 300.0
    """The pause of a job after an error that only the user can fix."""
    offline_blobs: float = 30.0
    """How long a registry that cannot be reached is not tried for further blobs of the same job."""
    poll: float = 0.5
    """Between checks for a job that has become runnable."""
    poll_notified: float = 5.0
    """The same while an idle worker is notified of changes."""
    queue_limits: float = 1.0
    """Between readings of the limits that running workers follow."""
    blob_in_use: float = 1.0
    """Between checks of a blob that another worker sends or fetches."""
    layer_in_use: float = 0.5
    """Between checks of a layer that another job compresses."""
    not_shown: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Before each check for what a registry has accepted and does not show yet."""
    unresolved: float = 60.0
    """How long a registry's name may have no address before it counts as misspelled, if it never had one."""
    rate_least: float = 0.1
    """Between two requests, once a registry has refused one as too many; it doubles with each refusal."""
    rate_most: float = 10.0
    """The longest pause between two requests."""
    rate_hold: float = 5.0
    """How long a Retry-After holds back the other requests; the refused one waits for all of it."""
    missing: float = 5.0
    """How long a registry must report that something does not exist, if its answer has no error code."""
    outage: float = 300.0
    """How long an intermediary may answer in a registry's place before its answer counts, if the registry has
    answered such requests before."""
    outage_unproven: float = 30.0
    """The same if the registry has never answered such a request."""
    outage_new_repository: float = 6.0
    """The same if the registry answers GET /v2/, but no upload was ever opened in the repository: its name
    is probably wrong."""
    store: Backoff = Backoff(first=0.25, longest=2.0, tries=None, jitter=False)
    """A job store that is locked, restarts or cannot be reached."""
    store_command: float = 60.0
    """How long a command waits for the job store."""
    store_run: float = 600.0
    """How long a run without ``--forever`` waits for the job store."""
    store_stopping: float = 5.0
    """How long a run that was stopped waits for the job store, to record what was acknowledged."""

    def job_pause(
        self, error: PusherError, failures: int, draw: Callable[[], float] = random.random
    ) -> float:
        """Return the seconds that a job waits after ``error``. ``failures``: those in a row before, without
        progress.

        Half of the pause is fixed, to limit requests to a dead registry; half is jitter, so that jobs do not
        retry at the same time.
        """
        if error.retry is Retry.LATER:
            return self.job_user
        longest = self.job_offline if error.retry is Retry.OFFLINE else self.job_longest
        pause: float = min(longest, self.job_first * 2 ** min(failures, 10))
        asked = min(error.retry_after or 0.0, LONGEST_WAIT)
        return max(asked, pause * (0.5 + 0.5 * draw()))


DEFAULT: Final = RetryPolicy()


def is_temporary(error: BaseException) -> bool:
    """Return whether trying again after a pause may help."""
    return isinstance(error, PusherError) and error.retry in (Retry.BACKOFF, Retry.OFFLINE)


class Attempts:
    """The failures in a row of one step, and the pause after each."""

    def __init__(self, backoff: Backoff, draw: Callable[[], float] = random.random) -> None:
        self._backoff = backoff
        self._draw = draw
        self._failures = 0

    def reset(self) -> None:
        """Begin again with the first pause, because progress was made."""
        self._failures = 0

    def pause_after(self, error: PusherError) -> float | None:
        """Count a failure; return the seconds to wait before the next try, or None if there is none.

        A Retry-After up to the longest pause is obeyed exactly. A longer one is for the job to wait for.
        """
        if not is_temporary(error):
            return None
        backoff = self._backoff
        tries = backoff.offline_tries if error.retry is Retry.OFFLINE else backoff.tries
        if tries is not None and self._failures >= tries:
            return None
        ceiling: float = min(backoff.longest, backoff.first * 2 ** min(self._failures, 30))
        self._failures += 1
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= backoff.longest else None
        return ceiling * self._draw() if backoff.jitter else ceiling


def retrying(step: Callable[[], T], attempts: Attempts, wait: Callable[[float, PusherError], object]) -> T:
    """Call ``step`` until it returns, and return its result.

    ``wait`` gets the pause (seconds) and its error; it reports and sleeps, and raises to stop.
    Raises the last error once ``attempts`` are used up or another try cannot help.
    """
    while True:
        try:
            return step()
        except PusherError as error:
            pause = attempts.pause_after(error)
            if pause is None:
                raise
            wait(pause, error)
