"""A request that is answered before its body is there: how much of the rest is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.responses import Response
from starlette.types import Message

from pusher.serve.unread_bodies import ReadRests

PART = 1000


async def sends_on() -> Message:
    return {"type": "http.request", "body": bytes(PART), "more_body": True}


async def falls_silent() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up() -> Message:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("client", "asked"),
    [(sends_on, 5), (falls_silent, 1), (hangs_up, 1)],
)
def test_the_end_of_the_answer_waits_for_a_rest_that_is_bounded(
    client: Callable[[], Awaitable[Message]], asked: int
) -> None:
    happened: list[str] = []

    async def receive() -> Message:
        happened.append("asked")
        return await client()

    async def send(message: Message) -> None:
        happened.append("end" if not message.get("more_body", True) else message.get("body", b"").decode())

    app = ReadRests(Response("full", 507), most=5 * PART, longest=0.1)
    scope = {"type": "http", "method": "PATCH", "headers": [(b"transfer-encoding", b"chunked")]}
    asyncio.run(app(scope, receive, send))
    assert happened == ["", "full", *["asked"] * asked, "end"]
