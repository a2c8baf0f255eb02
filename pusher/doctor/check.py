"""Define a check, its result, and the order of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum

from pusher.dataclass import dataclass
from pusher.errors import ExitCode, PusherError
from pusher.errors.base import bug


class Status(StrEnum):
    """How a check ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check. ``message`` is one sentence with the facts, ``hint`` what to do next."""

    name: str
    status: Status
    message: str
    hint: str = ""
    code: str | None = None
    """The error's code if the check failed."""
    exit_code: ExitCode = ExitCode.DONE
    registry: str | None = None
    """The registry (``host[:port]``) that was checked; None for this machine."""


class Skipped(Exception):
    """Raised by a check that does not apply; ``reason`` begins with "because"."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Check:
    """One check: its name and function."""

    name: str
    doing: str
    """What is shown while it runs."""
    run: Callable[[], str]
    """Returns the facts; raises PusherError if the check fails, Skipped if it does not apply."""
    needs: tuple[str, ...] = ()
    """Names of the checks that must not have failed before."""


OnCheck = Callable[[Check], None]


class CheckRunner:
    """Runs checks in order. A check that fails, or has a bug, stops only those that depend on it."""

    def __init__(
        self, on_check: OnCheck, *, registry: str | None = None, before: CheckRunner | None = None
    ) -> None:
        """``on_check`` is called before each check; the failures of ``before`` stop checks here, too."""
        self._on_check = on_check
        self._registry = registry
        self._stopped_by: dict[str, str] = dict(before._stopped_by) if before else {}

    def run(self, checks: Iterable[Check]) -> Iterator[CheckResult]:
        """Yield the result of each check, which runs when the result is requested."""
        for check in checks:
            cause = next((self._stopped_by[need] for need in check.needs if need in self._stopped_by), None)
            if cause is not None:
                self._stopped_by[check.name] = cause
                yield self._result(check, Status.SKIPPED, f"because the check {cause} failed")
                continue
            self._on_check(check)
            result = self._run(check)
            if result.status is Status.FAILED:
                self._stopped_by[check.name] = check.name
            yield result

    def _run(self, check: Check) -> CheckResult:
        try:
            return self._result(check, Status.PASSED, check.run())
        except Skipped as skipped:
            return self._result(check, Status.SKIPPED, skipped.reason, skipped.hint)
        except PusherError as error:
            return self._failed_result(check, error)
        except Exception as error:  # a bug in one check does not stop the others
            return self._failed_result(check, bug(error))

    def _failed_result(self, check: Check, error: PusherError) -> CheckResult:
        result = self._result(check, Status.FAILED, error.message, error.hint)
        return replace(result, code=error.code, exit_code=error.exit_code)

    def _result(self, check: Check, status: Status, message: str, hint: str = "") -> CheckResult:
        return CheckResult(check.name, status, message, hint, registry=self._registry)
