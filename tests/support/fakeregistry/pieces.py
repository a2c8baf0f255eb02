"""What several registries do alike."""

from __future__ import annotations

import dataclasses
import re

from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.storage import UploadSession
from tests.support.fakeregistry.wire import Reply


def stable_location(exchange: Exchange, session: UploadSession) -> str:
    """A path that stays the same for the whole session, without a query."""
    return exchange.rules.url(exchange, f"/v2/{session.repository}/blobs/uploads/{session.uuid}")


def known(exchange: Exchange) -> UploadSession | Reply:
    """A session by its id alone."""
    return exchange.session or problem(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


def content_range(exchange: Exchange) -> tuple[int, int] | None:
    """First and last byte of a request that says them as the specification wants it."""
    match = re.fullmatch(r"(\d+)-(\d+)", exchange.request.headers.get("content-range", ""))
    return (int(match[1]), int(match[2])) if match else None


def in_order(exchange: Exchange, session: UploadSession) -> Reply | None:
    """416 unless the chunk begins where the last one ended and is as long as it says."""
    said, length = content_range(exchange), exchange.request.content_length
    if said is None or said[0] != session.size or said[1] - said[0] + 1 != length:
        return problem(416, "BLOB_UPLOAD_INVALID", "blob upload invalid")
    return None


def positioned(exchange: Exchange, session: UploadSession, reply: Reply) -> Reply:
    """The reply with the session's Location and Range."""
    position = exchange.rules.position(exchange, session)
    return dataclasses.replace(reply, headers={**reply.headers, **position})


def receive_whole(exchange: Exchange, session: UploadSession) -> Reply | None:
    """Keep a body once it is complete; of a broken one nothing is left."""
    received = 0
    with session.writer(session.size) as file:
        for block in exchange.body:
            file.write(block)
            received += len(block)
    with session.lock:
        session.size += received
        session.parts.append(received)
    return None


def no_status(exchange: Exchange, session: UploadSession) -> Reply:
    """There is no such request."""
    return problem(404, "UNSUPPORTED", "the operation is unsupported")
