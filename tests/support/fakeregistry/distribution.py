"""distribution/distribution, 2.x and 3.x (filesystem driver).

Source: ``registry/handlers/blobupload.go`` and ``hmac.go`` of v2.8.3 and v3.0.0, and what 2.8.2 and 3.1.1
answered when they were run.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from tests.support.fakeregistry.rules import Exchange, Rules, blob_stored, problem
from tests.support.fakeregistry.storage import UploadSession
from tests.support.fakeregistry.wire import Reply

_HMAC_SIZE: Final = 32
_OCTETS: Final = "application/octet-stream"


def _location(exchange: Exchange, session: UploadSession) -> str:
    """Absolute, with the session's offset in a signed state: base64url(HMAC-SHA256, JSON)."""
    state = {
        "Name": session.repository,
        "UUID": session.uuid,
        "Offset": session.size,
        "StartedAt": datetime.fromtimestamp(session.started_at, UTC).isoformat().replace("+00:00", "Z"),
    }
    message = json.dumps(state, separators=(",", ":")).encode()
    signature = hmac.digest(exchange.store.secret, message, hashlib.sha256)
    token = base64.urlsafe_b64encode(signature + message).decode().replace("=", "%3D")
    path = f"/v2/{session.repository}/blobs/uploads/{session.uuid}?_state={token}"
    return exchange.rules.url(exchange, path)


def _offset_of(exchange: Exchange) -> int | None:
    """The offset that the request's ``_state`` claims; None if the state is missing, forged or another's."""
    try:
        packed = base64.urlsafe_b64decode(exchange.request.query.get("_state", ""))
    except ValueError:
        return None
    signature, message = packed[:_HMAC_SIZE], packed[_HMAC_SIZE:]
    if not hmac.compare_digest(signature, hmac.digest(exchange.store.secret, message, hashlib.sha256)):
        return None
    state: dict[str, Any] = json.loads(message)
    ours = state["Name"] == exchange.route.repository and state["UUID"] == exchange.route.reference
    return int(state["Offset"]) if ours else None


def _upload_invalid() -> Reply:
    return problem(404, "BLOB_UPLOAD_INVALID", "blob upload invalid")


def _upload_unknown() -> Reply:
    return problem(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


def _unknown_error(detail: str) -> Reply:
    return problem(500, "UNKNOWN", "unknown error", detail)


def _admit_2(exchange: Exchange) -> UploadSession | Reply:
    """Every request, GET and DELETE too, must bring a state whose offset is what the server has."""
    offset = _offset_of(exchange)
    if offset is None:
        return _upload_invalid()
    session = exchange.session
    if session is None:
        return _upload_unknown()
    return session if offset == session.size else _upload_invalid()


def _admit_3(exchange: Exchange) -> UploadSession | Reply:
    """A status needs the session's id only; a wrong offset is a 416 that tells nothing and breaks nothing."""
    session = exchange.session
    if exchange.request.method == "GET":
        return session or _upload_unknown()
    offset = _offset_of(exchange)
    if offset is None:
        return _upload_invalid()
    if session is None:
        return _upload_unknown()
    return session if offset == session.size else _range_invalid()


def _range_invalid() -> Reply:
    return problem(416, "RANGE_INVALID", "invalid content range")


def _check_chunk_2(exchange: Exchange, session: UploadSession) -> Reply | None:
    """Content-Range is not read at all."""
    if exchange.request.headers.get("content-type", _OCTETS) != _OCTETS:
        return _unknown_error("bad Content-Type")
    return None


def _check_chunk_3(exchange: Exchange, session: UploadSession) -> Reply | None:
    headers = exchange.request.headers
    if headers.get("content-type", _OCTETS) != _OCTETS:
        return _unknown_error("bad Content-Type")
    content_range, length = headers.get("content-range"), exchange.request.content_length
    if content_range is None or length is None:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", content_range)
    if match is None:
        return _unknown_error(f"invalid content range format: {content_range}")
    start, end = int(match[1]), int(match[2])
    if start > end or start != session.size:
        return _range_invalid()
    if end - start + 1 != length:
        return problem(400, "SIZE_INVALID", "provided length did not match content length")
    return None


def _receive(exchange: Exchange, session: UploadSession) -> Reply | None:
    """Append block by block: what arrived before a break stays."""
    position = session.size
    with session.writer(position) as file:
        for block in exchange.body:
            file.write(block)
            position += len(block)
            with session.lock:
                session.size = max(session.size, position)
    return None


def _close(exchange: Exchange, session: UploadSession) -> Reply:
    digest = exchange.request.query.get("digest", "")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    exchange.rules.receive(exchange, session)
    if session.digest() != digest:
        if exchange.rules.cancels_on_wrong_digest:
            exchange.store.forget_session(session.uuid)
        return problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    exchange.store.forget_session(session.uuid)
    exchange.store.keep(session.repository, digest, session.path, session.size)
    location = exchange.rules.url(exchange, f"/v2/{session.repository}/blobs/{digest}")
    return blob_stored(location, digest)


def _check_manifest(exchange: Exchange, manifest: dict[str, Any]) -> Reply | None:
    store, repository = exchange.store, exchange.route.repository
    blobs = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
    missing = [blob["digest"] for blob in blobs if store.blob(repository, blob["digest"]) is None]
    children = manifest.get("manifests", [])
    missing += [child["digest"] for child in children if store.manifest(repository, child["digest"]) is None]
    if missing:
        return problem(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", {"digest": missing[0]})
    return None


DISTRIBUTION_2: Final = Rules(
    name="distribution 2.x",
    location=_location,
    admit=_admit_2,
    check_chunk=_check_chunk_2,
    receive=_receive,
    close=_close,
    check_manifest=_check_manifest,
    empty_range="0-0",
    verifies_manifest_digest=True,
    common_headers={"Docker-Distribution-Api-Version": "registry/2.0"},
)
DISTRIBUTION_3: Final = dataclasses.replace(
    DISTRIBUTION_2,
    name="distribution 3.x",
    admit=_admit_3,
    check_chunk=_check_chunk_3,
    cancels_on_wrong_digest=True,
)
