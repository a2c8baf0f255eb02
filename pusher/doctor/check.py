"""One thing that is looked at, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pusher.errors import ExitCode, PusherError
from pusher.errors.base import bug


class Result(StrEnum):
    """How a check ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class Check:
    """A check's outcome. ``message`` is one sentence with the facts, ``hint`` what to do next."""

    name: str
    result: Result
    message: str
    hint: str = ""
    code: str | None = None
    """The error's code where the check failed."""
    exit_code: ExitCode = ExitCode.DONE
    registry: str | None = None
    """The registry (``host[:port]``) that was looked at; None for this machine."""


class Skipped(Exception):
    """Raised by a check that does not apply; ``reason`` begins with "because"."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Step:
    """A check that is still to be made."""

    name: str
    doing: str
    """What to show while it lasts."""
    look: Callable[[], str]
    """Returns the facts; raises PusherError where the check fails, Skipped where it does not apply."""
    needs: tuple[str, ...] = ()
    """Names of the checks without which this one makes no sense."""


Begin = Callable[[Step], None]


class Course:
    """Makes checks in their order. A check that fails, or breaks, stops those that need it and no other."""

    def __init__(self, begin: Begin, *, registry: str | None = None, before: Course | None = None) -> None:
        self._begin = begin
        self._registry = registry
        self._stopped_by: dict[str, str] = dict(before._stopped_by) if before else {}

    def run(self, steps: Iterable[Step]) -> Iterator[Check]:
        """Each step's check, made when it is asked for."""
        for step in steps:
            cause = next((self._stopped_by[need] for need in step.needs if need in self._stopped_by), None)
            if cause is not None:
                self._stopped_by[step.name] = cause
                yield self._check(step, Result.SKIPPED, f"because the check {cause} failed")
                continue
            self._begin(step)
            check = self._look(step)
            if check.result is Result.FAILED:
                self._stopped_by[step.name] = step.name
            yield check

    def _look(self, step: Step) -> Check:
        try:
            return self._check(step, Result.PASSED, step.look())
        except Skipped as skipped:
            return self._check(step, Result.SKIPPED, skipped.reason, skipped.hint)
        except PusherError as error:
            return self._failed(step, error)
        except Exception as error:  # the checks after this one are as good as before
            return self._failed(step, bug(error))

    def _failed(self, step: Step, error: PusherError) -> Check:
        check = self._check(step, Result.FAILED, error.message, error.hint)
        return replace(check, code=error.code, exit_code=error.exit_code)

    def _check(self, step: Step, result: Result, message: str, hint: str = "") -> Check:
        return Check(step.name, result, message, hint, registry=self._registry)
