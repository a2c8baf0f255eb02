"""What every error has: a code, an exit code, whether trying again helps, a sentence and a hint."""

from __future__ import annotations

from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; unknown ones mean failure."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    FAILED = 3
    AUTH = 4
    UNFINISHED = 5
    REFUSED = 6
    SOURCE = 7
    STORE = 8
    INTERRUPTED = 130
    TERMINATED = 143


class Retry(Enum):
    """What trying again is worth."""

    NEVER = "never"
    BACKOFF = "backoff"
    """Helps after a pause; counts as an attempt."""
    OFFLINE = "offline"
    """The registry cannot be reached at all; waiting for the network is not an attempt."""
    LATER = "later"
    """Helps once the user has done something (freed disk space); a drain run does not wait for it."""


class PusherError(Exception):
    """Base of everything a user can cause or meet.

    ``message`` is one sentence without a final full stop: what happened and where. ``hint`` says what to do,
    with the exact command where there is one. Neither ever holds a secret.
    """

    code = "unexpected"
    exit_code = ExitCode.UNEXPECTED
    retry = Retry.NEVER

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        """Seconds the registry asked us to wait, if it did."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.retry_after))


def _rebuild(cls: type[PusherError], message: str, hint: str, retry_after: float | None) -> PusherError:
    return cls(message, hint=hint, retry_after=retry_after)


# never shown: how work that nobody wants any more is left


class Stopped(Exception):
    """The user asked us to stop; everything acknowledged is stored."""


class LeaseLost(Exception):
    """The job or upload now belongs to someone else, or was paused or cancelled; stop working on it."""
