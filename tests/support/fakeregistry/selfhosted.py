"""Registries that people run themselves.

Sources: those that ``pusher.registry.upload.profiles.table`` names. What is not known is as bad as it may be.
"""

from __future__ import annotations

import dataclasses
import secrets
import string
from typing import Final

from tests.support.fakeregistry.distribution import DISTRIBUTION_2
from tests.support.fakeregistry.pieces import (
    content_range,
    in_order,
    known,
    no_status,
    positioned,
    receive_whole,
    stable_location,
)
from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.storage import UploadSession
from tests.support.fakeregistry.wire import Cut, Disconnected, Reply

HARBOR: Final = dataclasses.replace(DISTRIBUTION_2, name="Harbor")

# --- Quay -------------------------------------------------------------------------------------------------


def _quay_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    """A gap is refused; a chunk from byte 0 on is taken whatever is there, and appended."""
    said = content_range(exchange)
    if said is None and "content-range" in exchange.request.headers:
        return problem(416, "BLOB_UPLOAD_INVALID", "invalid range")
    if said is not None and said[0] > session.size:
        return positioned(exchange, session, Reply(416))
    return None


def _quay_receive(exchange: Exchange, session: UploadSession) -> Reply | None:
    """Append what arrives, even of a broken body, without what an overlapping chunk brings again."""
    said = content_range(exchange)
    skip = session.size - said[0] if said is not None and said[0] > 0 else 0
    position = session.size
    with session.writer(position) as file:
        for block in exchange.body:
            new = block[skip:]
            skip = max(0, skip - len(block))
            file.write(new)
            position += len(new)
            with session.lock:
                session.size = position
    return None


def _quay_status(exchange: Exchange, session: UploadSession) -> Reply:
    return Reply(204, {"Range": f"bytes=0-{session.size}"})


QUAY: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Quay",
    location=stable_location,
    admit=known,
    check_chunk=_quay_check,
    receive=_quay_receive,
    status=_quay_status,
    excess=1,
    cancels_on_wrong_digest=True,
    opening_headers={"Range": "bytes=0--1"},
)

# --- zot --------------------------------------------------------------------------------------------------


def _zot_receive(exchange: Exchange, session: UploadSession) -> Reply | None:
    """A body that breaks takes the session with it."""
    try:
        return receive_whole(exchange, session)
    except (Cut, Disconnected):
        exchange.store.forget_session(session.uuid)
        raise


ZOT: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="zot",
    location=stable_location,
    admit=known,
    check_chunk=in_order,
    receive=_zot_receive,
    relative_locations=True,
    opening_headers={"Blob-Upload-UUID": "the session's id"},
)


def _of_the_chunk(exchange: Exchange, session: UploadSession) -> str:
    return f"0-{session.parts[-1] - 1}"


ZOT_OLD: Final = dataclasses.replace(ZOT, name="zot before 2025", chunk_range=_of_the_chunk)

# --- Gitea ------------------------------------------------------------------------------------------------


def _gitea_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    if "content-range" not in exchange.request.headers:
        if session.size:
            return problem(400, "BLOB_UPLOAD_INVALID", "Stream uploads after first write are not allowed")
        return None
    return in_order(exchange, session)


def _gitea_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(25))


GITEA: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Gitea",
    location=stable_location,
    admit=known,
    check_chunk=_gitea_check,
    receive=receive_whole,
    session_id=_gitea_id,
    relative_locations=True,
)

# --- Artifactory and Nexus --------------------------------------------------------------------------------


def _artifactory_close(exchange: Exchange, session: UploadSession) -> Reply:
    """The body of the PUT is not looked at."""
    exchange.body.drain()
    return DISTRIBUTION_2.close(exchange, session)


ARTIFACTORY: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Artifactory",
    location=stable_location,
    admit=known,
    check_chunk=in_order,
    receive=receive_whole,
    close=_artifactory_close,
    status=no_status,
    common_headers={"X-JFrog-Version": "Artifactory/7.120.3", "X-Artifactory-Id": "a:b"},
)


def _nexus_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    return problem(405, "UNSUPPORTED", "the operation is unsupported")


NEXUS: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Nexus",
    location=stable_location,
    admit=known,
    check_chunk=_nexus_check,
    receive=receive_whole,
    status=no_status,
    common_headers={"Server": "Nexus/3.70.1-02 (OSS)"},
)
