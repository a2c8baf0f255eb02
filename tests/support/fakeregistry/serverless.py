"""cloudflare/serverless-registry (Workers and R2) with its rules, the odd ones included.

Source: its ``src/router.ts``, ``src/registry/r2.ts`` and what a local run of it answered.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any, Final

from tests.support.fakeregistry.rules import Exchange, Rules, blob_stored, problem
from tests.support.fakeregistry.storage import UploadSession, file_digest
from tests.support.fakeregistry.wire import Reply

_MIB: Final = 1024 * 1024


def _location(exchange: Exchange, session: UploadSession) -> str:
    path = f"/v2/{session.repository}/blobs/uploads/{session.uuid}?_stateHash={session.token}"
    return exchange.rules.url(exchange, path)


def _internal_error() -> Reply:
    return problem(500, "INTERNAL_ERROR", "internal error")


def _range_error(exchange: Exchange, session: UploadSession) -> Reply:
    """416 with the right position; its detail dumps the whole state, as the original does."""
    position = exchange.rules.position(exchange, session)
    detail = {
        "stateHash": session.token,
        "state": {"registryUploadId": session.uuid, "byteRange": session.size, "parts": session.parts},
    }
    reply = problem(416, "RANGE_ERROR", "state of chunk upload does not match", detail)
    return dataclasses.replace(reply, headers={**reply.headers, **position})


def _admit(exchange: Exchange) -> UploadSession | Reply:
    """A status ignores ``_stateHash``; what changes the session must have the right one (DELETE excepted)."""
    session, method = exchange.session, exchange.request.method
    if session is None:
        return Reply(404) if method == "GET" else _internal_error()
    if method in {"GET", "DELETE"}:
        return session
    state_hash = exchange.request.query.get("_stateHash")
    if state_hash is None:
        return _internal_error()
    with session.lock:
        return session if state_hash == session.token else _range_error(exchange, session)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _check_chunk(exchange: Exchange, session: UploadSession) -> Reply | None:
    request, rules = exchange.request, exchange.rules
    if not request.has_body:
        return Reply(400)
    if "content-range" in request.headers:
        start, _, end = request.headers["content-range"].partition("-")
        first, last = _number(start), _number(end)
        # a one-byte chunk is refused as well: the original asks for start < end
        if first != session.size or last is None or first >= last:
            return _range_error(exchange, session)
    if session.dead or (rules.max_parts is not None and len(session.parts) >= rules.max_parts):
        return _internal_error()
    size = request.content_length
    if size is not None and not _fits(session.parts, size, rules.min_chunk or 0):
        return _range_error(exchange, session)
    return None


def _fits(parts: list[int], size: int, minimum: int) -> bool:
    """Whether a part may follow: as large as the ones before, or smaller than the last one.

    A second smaller one is taken here, and makes the close fail.
    """
    if not parts:
        return True
    return size < parts[-1] or (size == parts[-1] == parts[0] and size >= minimum)


def _receive(exchange: Exchange, session: UploadSession) -> Reply | None:
    """Whole chunks only: of a broken one nothing is left, because the state is written after the part."""
    start, parts, received = session.size, session.parts, 0
    with session.writer(start) as file:
        for block in exchange.body:
            file.write(block)
            received += len(block)
    with session.lock:
        if not _fits(parts, received, exchange.rules.min_chunk or 0):  # a body of unknown length
            return _range_error(exchange, session)
        session.size = start + received
        session.parts = [*parts, received]
        session.token = secrets.token_hex(32)
    return None


def _close(exchange: Exchange, session: UploadSession) -> Reply:
    digest = exchange.request.query.get("digest", "")
    if session.dead:
        return _internal_error()
    if session.parts:
        return _complete(exchange, session, digest)
    return _put_whole(exchange, session, digest)


def _complete(exchange: Exchange, session: UploadSession, digest: str) -> Reply:
    """The parts become the blob; a body of this request is dropped.

    Whatever fails here, the multipart upload is gone: the status still answers, but nothing can close the
    session any more.
    """
    exchange.body.drain()
    rules = exchange.rules
    with session.lock:
        *full, last = session.parts
        equal = all(part == full[0] and part >= (rules.min_chunk or 0) for part in full)
        fits = not full or last <= full[0]
        small_enough = rules.max_blob is None or session.size <= rules.max_blob
        if not (equal and fits and small_enough and session.digest() == digest):
            session.dead = True
            return _internal_error()
    return _store(exchange, session, digest)


def _put_whole(exchange: Exchange, session: UploadSession, digest: str) -> Reply:
    """No parts: the body is the blob, verified as it is written; a failure leaves the session as it was."""
    rules, path, size = exchange.rules, exchange.store.scratch(), 0
    with path.open("wb") as file:
        for block in exchange.body:
            file.write(block)
            size += len(block)
    too_large = rules.max_blob is not None and size > rules.max_blob
    if too_large or (not size and not rules.accepts_empty_blob) or file_digest(path, size) != digest:
        return _internal_error()
    session.path, session.size = path, size
    return _store(exchange, session, digest)


def _store(exchange: Exchange, session: UploadSession, digest: str) -> Reply:
    exchange.store.keep(session.repository, digest, session.path, session.size)
    exchange.store.forget_session(session.uuid)
    location = exchange.rules.url(exchange, f"/v2/{session.repository}/blobs/{digest}")
    return blob_stored(location, digest)


def _check_manifest(exchange: Exchange, manifest: dict[str, Any]) -> Reply | None:
    if not isinstance(manifest.get("mediaType"), str):
        return problem(400, "MANIFEST_INVALID", "manifest invalid", {"mediaType": "Required"})
    store, repository = exchange.store, exchange.route.repository
    blobs = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
    missing = [blob["digest"] for blob in blobs if store.blob(repository, blob["digest"]) is None]
    children = [*manifest.get("manifests", []), *([manifest["subject"]] if "subject" in manifest else [])]
    missing += [child["digest"] for child in children if store.manifest(repository, child["digest"]) is None]
    if missing:
        return problem(400, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": missing[0]})
    return None


SERVERLESS: Final = Rules(
    name="serverless-registry",
    gives_ranges=False,
    location=_location,
    admit=_admit,
    check_chunk=_check_chunk,
    receive=_receive,
    close=_close,
    check_manifest=_check_manifest,
    empty_range="0--1",
    announces_limits=True,
    min_chunk=5 * _MIB,
    max_chunk=100_000_000,
    max_body=100_000_000,
    max_blob=5 * 1024 * _MIB,
    max_parts=10_000,
    keeps_links=True,
    scheme_ignores_case=False,
    relative_locations=True,
    opening_headers={"Content-Range": "0-0"},
    realm=lambda exchange: exchange.base + exchange.request.target,
)
