"""The doctor's checks made in this process, and a site that plays a registry as badly as a test likes."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from pusher.config import Settings, Timeouts
from pusher.config.load import sqlite_url
from pusher.doctor import CheckResult, EarlyErrors, Status, parse_target, run_checks
from pusher.errors import PusherError
from tests.registry.sites import Seen
from tests.support.fakeregistry.wire import Reply

NETWORK: Final = ("proxy", "DNS", "TCP", "TLS", "registry", "clock")
PUSHING: Final = ("login", "push", "profile", "chunks", "resume")
LOCAL: Final = ("config", "reference", "image", "job store", "disk")
EVERY: Final = (*LOCAL, "credential", *NETWORK, *PUSHING)
NAME: Final = "registry.test"
"""A registry beyond this machine, as far as pusher can tell."""


@dataclass(frozen=True)
class Diagnosis:
    """Checks, each by its name."""

    checks: list[CheckResult]

    def __getitem__(self, name: str) -> CheckResult:
        (found,) = [check for check in self.checks if check.name == name]
        return found

    def of(self, result: Status) -> list[str]:
        return [check.name for check in self.checks if check.status is result]

    def assert_healthy(self, *, skipped: Collection[str] = ()) -> None:
        """Nothing failed, and these alone were skipped."""
        assert self.of(Status.FAILED) == [], self.checks
        assert set(self.of(Status.SKIPPED)) == set(skipped), self.checks
        assert {check.name for check in self.checks} == set(EVERY)

    def assert_failed(
        self, name: str, error: type[PusherError], *words: str, skipped: Collection[str] = ()
    ) -> CheckResult:
        """That check alone failed, with this error; its line has the words; the others are as they should."""
        assert self.of(Status.FAILED) == [name], self.checks
        assert set(self.of(Status.SKIPPED)) == set(skipped), self.checks
        assert {check.name for check in self.checks} == set(EVERY)
        check = self[name]
        assert (check.code, check.exit_code) == (error.code, error.exit_code)
        line = f"{check.message}; {check.hint}"
        for word in words:
            assert word in line, line
        assert check.hint
        for other in self.of(Status.SKIPPED):
            assert self[other].message.startswith("because ")
        return check


def after(name: str) -> tuple[str, ...]:
    """The checks at a registry that are skipped when the one of this name fails."""
    if name in ("credential", "registry"):
        return PUSHING
    if name in ("clock", "resume"):
        return ()
    return EVERY[EVERY.index(name) + 1 :] if name in EVERY[5:] else EVERY[5:]


def settings_in(home: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "home": home,
        "database_url": sqlite_url(home / "jobs.db"),
        "timeouts": Timeouts(connect=30, stall=30, answer=30, commit=30),
    }
    return Settings(**(values | changes))


def diagnose(
    target: str | None,
    settings: Settings,
    *,
    to: str | None = None,
    errors: EarlyErrors = EarlyErrors(),  # noqa: B008
) -> Diagnosis:
    chosen = parse_target(target, to=to, default=settings.default_registry)
    return Diagnosis(list(run_checks(chosen, settings, errors=errors, on_check=lambda _: None)))


def stay_here(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Only these names have an address; no question for another leaves the machine."""
    real = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        host = names.get(host.replace(".", "_"), host)
        if host != "localhost" and not host.replace(".", "").isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


class Registry:
    """Answers like a small registry; ``instead`` has other answers, by method, PING for GET /v2/."""

    def __init__(self, **instead: Reply) -> None:
        self.instead = instead
        self.opened = 0

    def __call__(self, seen: Seen) -> Reply:
        kind = "PING" if seen.target == "/v2/" else seen.method
        reply = self.instead.get(kind)
        if kind == "POST" and reply is None:
            self.opened += 1
            location = f"{seen.target}session?_state=some-signed-state"
            reply = Reply(202, {"Location": location, "Range": "0-0"})
        if kind == "DELETE":
            self.opened -= 1
        return (
            reply
            or {
                "PING": Reply(200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}"),
                "GET": Reply(204, {"Location": seen.target, "Range": "0-0"}),
                "DELETE": Reply(204),
            }[kind]
        )


def error_reply(status: int, code: str, message: str, **headers: str) -> Reply:
    body = f'{{"errors":[{{"code":"{code}","message":"{message}"}}]}}'
    return Reply(status, {"Content-Type": "application/json", **headers}, body.encode())
