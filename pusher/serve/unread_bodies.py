"""Read the rest of a body that was answered before its end, so that the client reads the answer."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST: Final = 64 << 20
"""Bytes of a rest that are read."""
LONGEST: Final = 10.0
"""Seconds that it may take."""


class ReadRests:
    """Sends an early answer at once, and ends it once the client has sent the rest of its body, or hung up.

    A connection that is closed with bytes unread is reset, and a client that still sends sees the reset alone
    (RFC 9112, 9.6). Of a rest that is too long, or too slow, the end is not waited for.
    """

    def __init__(self, app: ASGIApp, *, most: int = MOST, longest: float = LONGEST) -> None:
        """``most``: bytes that are read; ``longest``: seconds that it may take."""
        self._app = app
        self._most = most
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        is_unread, has_length, is_held = True, False, False

        async def receive_and_look() -> Message:
            nonlocal is_unread
            message = await receive()
            is_unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_all_but_the_end(message: Message) -> None:
            nonlocal has_length, is_held
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            elif is_unread and has_length and not message.get("more_body", False):
                is_held = True  # by the length the client knows that this is all
                message = {**message, "more_body": True}
            await send(message)

        try:
            await self._app(scope, receive_and_look, send_all_but_the_end)
        finally:
            if is_held:
                await self._read_rest(receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _read_rest(self, receive: Receive) -> None:
        left = self._most
        try:
            async with asyncio.timeout(self._longest):
                while left > 0:
                    message = await receive()
                    if not message.get("more_body", False):
                        return
                    left -= len(message["body"])
        except TimeoutError:
            pass


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
