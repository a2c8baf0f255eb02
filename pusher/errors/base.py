"""What every error has: a code, an exit code, whether a retry helps, a message and a hint."""

from __future__ import annotations

from enum import Enum, IntEnum
from pathlib import Path

from pusher.secret import redact_secrets
from pusher.text import printable, printable_lines


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
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class Retry(Enum):
    """Whether trying again can help."""

    NEVER = "never"
    BACKOFF = "backoff"
    """Helps after a pause; counts as an attempt."""
    OFFLINE = "offline"
    """The registry cannot be reached at all; waiting for the network is not an attempt."""
    LATER = "later"
    """Helps once the user has done something (freed disk space); a drain run does not wait for it."""


class PusherError(Exception):
    """An unexpected error: a bug in pusher. Subclasses are the errors that are expected.

    ``message`` is one sentence without a final full stop: what happened and where. ``hint`` says what to do,
    with the exact command where there is one; it is the class's ``advice`` where the instance knows nothing
    better. Neither ever holds a secret, and both are fit for a terminal, whatever they quote. A class with a
    ``code`` of its own is an entry of the catalogue, and the first sentence of its docstring is for users.
    """

    code = "unexpected"
    exit_code = ExitCode.UNEXPECTED
    retry = Retry.NEVER
    fixable = True
    """Whether ``pusher retry`` can help once the hint was followed; otherwise it takes a new job."""
    advice = "nothing is lost; run the command again with --debug, and report what it prints"

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        self.message = printable(redact_secrets(message, distinct=True))
        self.hint = printable_lines(redact_secrets(hint, distinct=True)) or self.advice
        super().__init__(self.message)
        self.retry_after = retry_after
        """Seconds the registry asked us to wait, if it did."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.retry_after))


def bug(error: BaseException) -> PusherError:
    """Return the error for an unexpected exception. Its text is not quoted, as it may contain a secret."""
    ours = Path(__file__).parents[1]
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(ours)]
    place = (
        f" in {Path(inside[-1].filename).relative_to(ours.parent)}, line {inside[-1].lineno}"
        if inside
        else ""
    )
    return PusherError(f"this is a bug in pusher: {type(error).__name__}{place}")


def _rebuild(cls: type[PusherError], message: str, hint: str, retry_after: float | None) -> PusherError:
    return cls(message, hint=hint, retry_after=retry_after)


# never shown: they end work that is no longer wanted


class Stopped(Exception):
    """The user asked to stop; everything that was acknowledged is stored."""


class LeaseLost(Exception):
    """The job or upload belongs to another worker now, or was paused or cancelled; stop working on it."""
