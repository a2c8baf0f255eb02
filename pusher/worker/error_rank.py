"""Choose which of several errors to report."""

from __future__ import annotations

from collections.abc import Iterable

from pusher.errors import LeaseLost, PusherError, Retry, Stopped
from pusher.registry.http.body import BlobDamaged


def most_important(errors: Iterable[BaseException | None]) -> BaseException:
    """Return the error to report: one that no retry fixes, else one that a pause may fix, else any other."""

    def rank(error: BaseException) -> int:
        if isinstance(error, LeaseLost):
            return 0
        if isinstance(error, Stopped | BlobDamaged):
            return 5
        if not isinstance(error, PusherError):
            return 1
        return {Retry.NEVER: 2, Retry.LATER: 3}.get(error.retry, 4)

    return min((error for error in errors if error is not None), key=rank)
