"""The distribution API over any ``Rules``: one function a kind of request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from pusher.oci.digest import of_bytes
from tests.support.fakeregistry.routes import On
from tests.support.fakeregistry.rules import Exchange, blob_stored, problem
from tests.support.fakeregistry.wire import Reply

_TOO_LARGE: Final = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n"
    b"<body>\r\n<center><h1>413 Request Entity Too Large</h1></center>\r\n</body>\r\n</html>\r\n"
)


def handle(exchange: Exchange) -> Reply:
    """Answer a request as the registry does."""
    return _HANDLERS[exchange.route.kind](exchange)


def front_refusal(exchange: Exchange) -> Reply | None:
    """The 413 of a body limit in front: answered at once, in HTML, without reading the body."""
    limit, length = exchange.rules.max_body, exchange.request.content_length
    if limit is None or length is None or length <= limit:
        return None
    return Reply(413, {"Content-Type": "text/html", "Server": "cloudflare"}, _TOO_LARGE, early=True)


def _ping(exchange: Exchange) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, b"{}")


def _open(exchange: Exchange) -> Reply:
    """POST: mount where both parameters are there and the blob is, else a session."""
    query, repository, rules = exchange.request.query, exchange.route.repository, exchange.rules
    if (
        "mount" in query
        and "from" in query
        and exchange.store.mount(query["from"], repository, query["mount"])
    ):
        return blob_stored(rules.url(exchange, f"/v2/{repository}/blobs/{query['mount']}"), query["mount"])
    session = exchange.store.open_session(repository, rules.session_id())
    return Reply(202, rules.opened(exchange, session))


def _status(exchange: Exchange) -> Reply:
    session = exchange.rules.admit(exchange)
    if isinstance(session, Reply):
        return session
    if exchange.rules.status is not None:
        return exchange.rules.status(exchange, session)
    with session.lock:
        return Reply(204, {**exchange.rules.position(exchange, session), **exchange.rules.limit_headers()})


def _chunk(exchange: Exchange) -> Reply:
    rules, session = exchange.rules, exchange.rules.admit(exchange)
    if isinstance(session, Reply):
        return session
    refusal = rules.check_chunk(exchange, session) or rules.receive(exchange, session)
    if refusal is not None:
        return refusal
    with session.lock:
        return Reply(rules.chunk_status, rules.accepted(exchange, session))


def _close(exchange: Exchange) -> Reply:
    rules, session, length = exchange.rules, exchange.rules.admit(exchange), exchange.request.content_length
    if isinstance(session, Reply):
        return session
    if rules.max_whole is not None and (length or 0) > rules.max_whole:
        return problem(413, "SIZE_INVALID", "the request is too large")
    return rules.close(exchange, session)


def _cancel(exchange: Exchange) -> Reply:
    session = exchange.rules.admit(exchange)
    if isinstance(session, Reply):
        return session
    exchange.store.forget_session(session.uuid)
    return Reply(204)


def _blob(exchange: Exchange) -> Reply:
    """HEAD and GET of a blob."""
    blob = exchange.store.blob(exchange.route.repository, exchange.route.reference)
    if blob is None:
        return problem(404, "BLOB_UNKNOWN", "blob unknown to registry", exchange.route.reference)
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": blob.digest}
    if exchange.route.kind is On.GET_BLOB:
        asked = re.fullmatch(r"bytes=(\d+)-", exchange.request.headers.get("range", ""))
        if asked is None or not exchange.rules.gives_ranges:
            return Reply(200, headers, blob.path)
        start = int(asked[1])
        if start >= blob.size:
            return problem(
                416, "RANGE_INVALID", "invalid range", None, **{"Content-Range": f"bytes */{blob.size}"}
            )
        headers["Content-Range"] = f"bytes {start}-{blob.size - 1}/{blob.size}"
        return Reply(206, headers, blob.path, start=start)
    digest, size = exchange.rules.describe_blob(blob)
    return Reply(200, {**headers, "Docker-Content-Digest": digest, "Content-Length": str(size)})


def _manifest(exchange: Exchange) -> Reply:
    """HEAD and GET of a manifest."""
    found = exchange.store.manifest(exchange.route.repository, exchange.route.reference)
    if found is None:
        return problem(404, "MANIFEST_UNKNOWN", "manifest unknown", {"Tag": exchange.route.reference})
    media_type, raw = found
    return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": of_bytes(raw)}, raw)


def _put_manifest(exchange: Exchange) -> Reply:
    raw, route = exchange.body.read(), exchange.route
    digest, media_type = of_bytes(raw), exchange.request.headers.get("content-type")
    try:
        manifest = json.loads(raw)
    except ValueError:
        manifest = None
    if media_type is None or not isinstance(manifest, dict):
        return problem(400, "MANIFEST_INVALID", "manifest invalid")
    by_digest = ":" in route.reference
    if by_digest and exchange.rules.verifies_manifest_digest and route.reference != digest:
        return problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    refusal = exchange.rules.check_manifest(exchange, manifest)
    if refusal is not None:
        return refusal
    exchange.store.put_manifest(route.repository, {digest, route.reference}, media_type, raw)
    reply = blob_stored(exchange.rules.url(exchange, f"/v2/{route.repository}/manifests/{digest}"), digest)
    if exchange.rules.notes_subjects and "subject" in manifest:
        reply.headers["OCI-Subject"] = manifest["subject"]["digest"]
    return reply


def _tags(exchange: Exchange) -> Reply:
    with exchange.store.lock:
        references = sorted(exchange.store.manifests[exchange.route.repository])
    body = {"name": exchange.route.repository, "tags": [name for name in references if ":" not in name]}
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _unsupported(exchange: Exchange) -> Reply:
    return problem(404, "UNSUPPORTED", "the operation is unsupported")


_HANDLERS: Final[dict[On, Callable[[Exchange], Reply]]] = {
    On.PING: _ping,
    On.OPEN: _open,
    On.STATUS: _status,
    On.CHUNK: _chunk,
    On.CLOSE: _close,
    On.CANCEL: _cancel,
    On.HEAD_BLOB: _blob,
    On.GET_BLOB: _blob,
    On.HEAD_MANIFEST: _manifest,
    On.GET_MANIFEST: _manifest,
    On.PUT_MANIFEST: _put_manifest,
    On.TAGS: _tags,
    On.OTHER: _unsupported,
}
