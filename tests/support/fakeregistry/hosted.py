"""Registries that somebody else runs, as far as their users have found out.

Sources: the issues that ``pusher.registry.upload.profiles.table`` names. What is not known is as bad as it
may be.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from tests.support.fakeregistry.distribution import DISTRIBUTION_2
from tests.support.fakeregistry.pieces import (
    content_range,
    in_order,
    known,
    no_status,
    receive_whole,
    stable_location,
)
from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.storage import UploadSession
from tests.support.fakeregistry.wire import Reply

_MIB: Final = 1024 * 1024

DOCKER_HUB: Final = dataclasses.replace(DISTRIBUTION_2, name="Docker Hub")
GITLAB: Final = dataclasses.replace(DISTRIBUTION_2, name="GitLab")

# --- GitHub -----------------------------------------------------------------------------------------------


def _ghcr_location(exchange: Exchange, session: UploadSession) -> str:
    return exchange.rules.url(exchange, f"/v2/{session.repository}/blobs/upload/{session.uuid}")


def _ghcr_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    limit = exchange.rules.max_chunk
    if limit is not None and (exchange.request.content_length or 0) > limit:
        text = "request body is too large and exceeds the maximum permissible limit of 4.00MiB"
        return problem(416, "BLOB_UPLOAD_INVALID", text)
    return in_order(exchange, session)


GHCR: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="GitHub",
    location=_ghcr_location,
    admit=known,
    check_chunk=_ghcr_check,
    receive=receive_whole,
    max_chunk=4 * _MIB,
    relative_locations=True,
)

# --- Amazon -----------------------------------------------------------------------------------------------


def _ecr_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    said, length = content_range(exchange), exchange.request.content_length or 0
    start = said[0] if said else 0
    if start != session.size:
        text = f"First byte of the layer part is {start} instead of {session.size}"
        return problem(416, "BLOB_UPLOAD_INVALID", text)
    limit = exchange.rules.max_chunk
    if limit is not None and length > limit:
        return problem(400, "BLOB_UPLOAD_INVALID", "the layer part is too large")
    return None


def _ecr_range(exchange: Exchange, session: UploadSession) -> str:
    """The end of the first chunk, for ever."""
    return f"0-{session.parts[0] - 1}"


def _ecr_close(exchange: Exchange, session: UploadSession) -> Reply:
    if session.parts:
        if not exchange.request.has_body:
            return problem(500, "UNKNOWN", "internal error")
        if refusal := _ecr_check(exchange, session):
            return refusal
        if min(session.parts) < (exchange.rules.min_chunk or 0):
            text = "All layer parts except the last part should be at least 5MB"
            return problem(400, "BLOB_UPLOAD_INVALID", text)
    return DISTRIBUTION_2.close(exchange, session)


ECR: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Amazon ECR",
    location=stable_location,
    admit=known,
    check_chunk=_ecr_check,
    receive=receive_whole,
    close=_ecr_close,
    status=no_status,
    chunk_status=201,
    chunk_range=_ecr_range,
    min_chunk=5 * _MIB,
    max_chunk=20 * _MIB,
)

# --- Google -----------------------------------------------------------------------------------------------


def _google_location(exchange: Exchange, session: UploadSession) -> str:
    path = f"/artifacts-uploads/namespaces/{session.repository}/uploads/{session.uuid}"
    return exchange.rules.url(exchange, path)


def _google_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    return problem(400, "BLOB_UPLOAD_INVALID", "invalid request")


def _close_whole(exchange: Exchange, session: UploadSession) -> Reply:
    """Each PUT begins anew."""
    session.size, session.parts = 0, []
    return DISTRIBUTION_2.close(exchange, session)


GOOGLE: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Google",
    location=_google_location,
    admit=known,
    check_chunk=_google_check,
    receive=receive_whole,
    close=_close_whole,
    status=no_status,
)

# --- Microsoft --------------------------------------------------------------------------------------------


def _acr_location(exchange: Exchange, session: UploadSession) -> str:
    return DISTRIBUTION_2.location(exchange, session).replace("?_state=", "?_nouploadcache=false&_state=")


def _acr_check(exchange: Exchange, session: UploadSession) -> Reply | None:
    """A ``bytes`` before the range is refused; its numbers are what the state says anyway."""
    if not re.fullmatch(r"\d+-\d+", exchange.request.headers.get("content-range", "")):
        return problem(416, "BLOB_UPLOAD_INVALID", "invalid content range")
    return None


ACR: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Azure",
    location=_acr_location,
    check_chunk=_acr_check,
    max_whole=20_000_000,
    relative_locations=True,
)

# --- Alibaba ----------------------------------------------------------------------------------------------


def _aliyun_receive(exchange: Exchange, session: UploadSession) -> Reply | None:
    start = session.size
    try:
        return DISTRIBUTION_2.receive(exchange, session)
    finally:
        session.parts.append(session.size - start)


def _aliyun_range(exchange: Exchange, session: UploadSession) -> str:
    """Of the chunk only."""
    return f"0-{session.parts[-1] - 1}" if session.parts else "0-0"


def _aliyun_status(exchange: Exchange, session: UploadSession) -> Reply:
    position = exchange.rules.position(exchange, session)
    return Reply(204, {**position, "Range": _aliyun_range(exchange, session)})


ALIYUN: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="Alibaba",
    receive=_aliyun_receive,
    chunk_range=_aliyun_range,
    status=_aliyun_status,
)
