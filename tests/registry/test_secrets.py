"""No message, log or traceback shows a Location's query, a password or a login's header."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from pusher.config import Timeouts
from pusher.errors import PusherError
from tests.registry.helpers import LOGIN, REPOSITORY, RULES, Push, pushing
from tests.support.fakeregistry import (
    Action,
    Answer,
    DropReply,
    Fault,
    ForgetSession,
    LieRange,
    On,
    RefuseRange,
    ResetAfter,
    Stall,
    bad_gateway,
    too_large,
)
from tests.support.fakeregistry.rules import Exchange
from tests.support.fakeregistry.wire import Reply
from tests.support.tokens import TokenServer, demand


class Echo(Action):
    """A front that quotes the whole request in its answer."""

    def answer(self, exchange: Exchange) -> Reply:
        headers = "; ".join(f"{name}: {value}" for name, value in exchange.request.headers.items())
        return Reply(404, {}, f"no route for {exchange.request.target} ({headers})".encode())


FAULTS: Final[dict[str, Callable[[], list[Fault]]]] = {
    "reset": lambda: [Fault(On.CHUNK, ResetAfter(100), times=None)],
    "lost reply": lambda: [Fault(On.CHUNK, DropReply(), times=None)],
    "stall": lambda: [Fault(On.CHUNK, Stall())],
    "refused": lambda: [Fault(On.CHUNK, RefuseRange(), times=None)],
    "502": lambda: [Fault(On.CHUNK, bad_gateway(), times=None)],
    "413": lambda: [Fault(On.CHUNK, too_large(), times=None)],
    "forgotten": lambda: [Fault(On.CHUNK, ForgetSession(), times=None)],
    "lie": lambda: [Fault(On.CHUNK, DropReply()), Fault(On.STATUS, LieRange(by=9), times=None)],
    "401": lambda: [Fault(On.CHUNK, Answer(401), times=None)],
    "403": lambda: [Fault(On.CLOSE, Answer(403), times=None)],
    "500 at the end": lambda: [Fault(On.CLOSE, bad_gateway(500), times=None)],
    "echo": lambda: [Fault(On.CHUNK, Echo(), times=None)],
    "echo at the end": lambda: [Fault(On.CLOSE, Echo(), times=None)],
}


def secrets_of(push: Push) -> set[str]:
    locations = [record.reply_headers.get("Location", "") for record in push.registry.requests()]
    queries = [location.partition("?")[2].partition("=")[2] for location in locations]
    plain = {query for query in queries if query} | {query.replace("%3D", "=") for query in queries if query}
    return plain | {LOGIN[1], base64.b64encode(":".join(LOGIN).encode()).decode()}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_secret_is_told(
    kind: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pushing(RULES[kind], tmp_path, timeouts=Timeouts(30, 0.4, 0.4, 0.4), checked=False) as push:
        push.registry.faults.add(*FAULTS[name]())
        told: list[str] = []
        for _ in range(4):
            try:
                push.upload.run()
            except PusherError as error:
                told += [error.message, error.hint, "".join(traceback.format_exception(error))]
        assert told
        told += [*push.journal.lost_sessions, caplog.text]
        secrets = secrets_of(push)
        assert len(secrets) > 2
        for text in told:
            assert not [secret for secret in secrets if secret in text]


def test_tokens_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        TokenServer(login=LOGIN) as tokens,
        pushing(RULES["distribution-2"], tmp_path, checked=False) as push,
    ):
        push.registry.faults.add(Fault(On.CHUNK, Echo()), demand(tokens))
        told: list[str] = []
        with pytest.raises(PusherError) as error:
            push.upload.run()
        tokens.allowed = lambda *_: False
        tokens.revoke()
        with pytest.raises(PusherError) as refused:
            push.upload.run()
        for raised in (error, refused):
            told += [
                raised.value.message,
                raised.value.hint,
                "".join(traceback.format_exception(raised.value)),
            ]
        told.append(caplog.text)
        assert tokens.given
        for secret in (*tokens.given, LOGIN[1], base64.b64encode(":".join(LOGIN).encode()).decode()):
            assert not [text for text in told if secret in text]


def test_unreachable(tmp_path: Path) -> None:
    with pushing(RULES["serverless"], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, DropReply()))
        with pytest.raises(PusherError):
            push.upload.run()
        push.registry.stop()
        with pytest.raises(PusherError) as error:
            push.upload.run()
        assert "_stateHash" not in "".join(traceback.format_exception(error.value))
        assert REPOSITORY not in error.value.message
