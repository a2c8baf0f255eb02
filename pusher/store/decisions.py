"""Define the user's commands for jobs, and the states in which each is possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import JobStateConflict
from pusher.reference import STANDARD_INPUT
from pusher.store.records import JobRecord, JobState
from pusher.text import suggest

_Q, _R, _W = JobState.QUEUED, JobState.RUNNING, JobState.WAITING
_RECEIVING = JobState.RECEIVING


@dataclass(frozen=True)
class Decision:
    """A command that changes a job's state to ``to``."""

    verb: str
    to: JobState
    said: str
    """The event's message."""
    possible: frozenset[JobState]
    """States in which it changes the job."""
    moot: frozenset[JobState]
    """States in which it has no effect and is not an error."""
    clears_error: bool = False
    only_by_id: frozenset[JobState] = frozenset()
    """Those of ``possible`` in which a job must be given by its id."""

    @property
    def of_all(self) -> frozenset[JobState]:
        """States of the jobs that ``--all`` selects."""
        return self.possible - self.only_by_id

    def changes(self, job_id: int, state: JobState) -> bool:
        """Return whether the command changes the job. Raises JobStateConflict if it is not possible."""
        if state in self.possible:
            return True
        if state in self.moot:
            return False
        raise JobStateConflict(
            f"job {job_id} {_HAS.get(state, 'is')} {state} and cannot be {self.verb}",
            hint=(_HINTS[state] if self.to == JobState.QUEUED else _NO_MORE.get(state, _HINTS[state])).format(
                job_id
            ),
        )


_HAS = {JobState.SUCCEEDED: "has", JobState.FAILED: "has"}
_HINTS = {
    JobState.PAUSED: "pusher resume {0}",
    JobState.SUCCEEDED: "pusher status {0} shows what was pushed; to push it again: pusher enqueue IMAGE",
    JobState.FAILED: "to try it again: pusher retry {0}",
    JobState.CANCELLED: "to try it again: pusher retry {0}",
    JobState.SUPERSEDED: "a newer job pushes to the same tag: pusher status {0}",
}
_NO_MORE = {
    JobState.SUCCEEDED: "pusher status {0} shows what was pushed; pusher does not delete it at the registry",
    JobState.FAILED: "nothing pushes it any more; to try it again: pusher retry {0}",
    JobState.CANCELLED: "nothing pushes it any more; to try it again: pusher retry {0}",
}
"""Of commands that would stop it."""

PAUSE = Decision(
    "paused",
    JobState.PAUSED,
    "paused by the user",
    frozenset({_Q, _R, _W, _RECEIVING}),
    frozenset({JobState.PAUSED}),
)
RESUME = Decision(
    "resumed",
    _Q,
    "resumed by the user",
    frozenset({JobState.PAUSED}),
    frozenset({_Q, _R, _W, _RECEIVING}),
)
CANCEL = Decision(
    "cancelled",
    JobState.CANCELLED,
    "cancelled by the user",
    frozenset({_Q, _R, _W, _RECEIVING, JobState.PAUSED}),
    frozenset({JobState.CANCELLED}),
)
EXPIRE = replace(CANCEL, said="no manifest came: what was received is dropped")
RETRY = Decision(
    "retried",
    _Q,
    "retried by the user",
    frozenset({_W, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED}),
    frozenset({_Q, _R, _RECEIVING}),
    clears_error=True,
    only_by_id=frozenset({JobState.CANCELLED, JobState.SUPERSEDED}),
)
RETRY_BY_ITSELF = replace(RETRY, said="tried again: a run has started, or a job has freed space")
DECISIONS: Final[Mapping[str, Decision]] = {
    "pause": PAUSE,
    "resume": RESUME,
    "cancel": CANCEL,
    "retry": RETRY,
}
"""By the name of the command."""


def overtaken_error(job: JobRecord, newer: int) -> JobStateConflict:
    """Return the error for a job that would set its tag back to an older image."""
    return JobStateConflict(
        f"job {job.id} would move {job.destination} back to an older image: job {newer}, which is newer, "
        "pushes there too",
        hint="to push the older image anyway, enqueue it again: "
        + suggest(
            "pusher enqueue {} --to {}", "-" if job.image == STANDARD_INPUT else job.image, job.destination
        ),
    )
