"""How one kind of registry differs from another: data and strategy functions.

A new registry is a ``Rules`` value of its own; the handlers never ask which registry they play.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pusher.oci.digest import of_bytes
from tests.support.fakeregistry.routes import Route
from tests.support.fakeregistry.storage import Blob, Store, UploadSession
from tests.support.fakeregistry.wire import Body, Reply, Request

Credentials = tuple[str, str]


@dataclass
class Exchange:
    """One request on its way through the registry."""

    store: Store
    rules: Rules
    request: Request
    route: Route
    body: Body
    base: str
    """``http://host:port`` as the client wrote it in its Host header: absolute locations begin with it."""

    @property
    def session(self) -> UploadSession | None:
        """The session that the path names, if the registry knows it."""
        return self.store.session(self.route.repository, self.route.reference)


@dataclass(frozen=True)
class Rules:
    """The behaviour of one kind of registry. Sizes are in bytes; None means without a limit."""

    name: str
    location: Callable[[Exchange, UploadSession], str]
    """The Location of a session as it stands."""
    admit: Callable[[Exchange], UploadSession | Reply]
    """The session for a request on it, or the refusal, before a body is read."""
    check_chunk: Callable[[Exchange, UploadSession], Reply | None]
    """The refusal of a PATCH, before its body is read."""
    receive: Callable[[Exchange, UploadSession], Reply | None]
    """Take a PATCH's body; decides what is left of it when the client disappears. A refusal, or None."""
    close: Callable[[Exchange, UploadSession], Reply]
    """The PUT that ends an upload, its body included."""
    check_manifest: Callable[[Exchange, dict[str, Any]], Reply | None]
    """The refusal of a manifest, given as parsed."""
    empty_range: str
    """The Range of a status answer when nothing was received."""
    announces_limits: bool = False
    """Whether the headers OCI-Chunk-Min-Length and OCI-Chunk-Max-Length are sent."""
    min_chunk: int | None = None
    max_chunk: int | None = None
    max_body: int | None = None
    """A front answers 413 to a longer body, before the registry sees the request."""
    max_whole: int | None = None
    """A longer body of a closing PUT is answered with 413."""
    max_blob: int | None = None
    max_parts: int | None = None
    accepts_empty_blob: bool = True
    cancels_on_wrong_digest: bool = False
    """Whether a close with a wrong digest ends the session (distribution)."""
    verifies_manifest_digest: bool = False
    """Whether a manifest put by digest must have that digest."""
    notes_subjects: bool = False
    """Whether it has the referrers API, and says so with OCI-Subject."""
    keeps_links: bool = False
    """HEAD of a mounted blob describes the link and not the blob."""
    gives_ranges: bool = True
    """Whether a part of a blob can be had; else the whole comes, whatever was asked for."""
    scheme_ignores_case: bool = True
    """Whether ``Authorization: basic`` will do."""
    realm: Callable[[Exchange], str] = lambda _: "registry"
    relative_locations: bool = False
    """Locations without scheme and host."""
    session_id: Callable[[], str] = lambda: str(uuid.uuid4())
    chunk_status: int = 202
    chunk_range: Callable[[Exchange, UploadSession], str] | None = None
    """The Range of the answer to a chunk, where it is not the blob's."""
    status: Callable[[Exchange, UploadSession], Reply] | None = None
    """The answer to a status request, where it is not the specification's."""
    excess: int = 0
    """Bytes by which the Range of a status and of a refusal is too high."""
    common_headers: dict[str, str] = field(default_factory=dict)
    opening_headers: dict[str, str] = field(default_factory=dict)

    def scaled(
        self,
        *,
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
        whole: int | None = None,
        blob: int | None = None,
    ) -> Rules:
        """The same registry with other limits, so that tests need not send megabytes; where a front limits
        bodies, ``max`` is its limit, too."""
        return dataclasses.replace(
            self,
            min_chunk=self.min_chunk if min is None else min,
            max_chunk=self.max_chunk if max is None else max,
            max_body=self.max_body if self.max_body is None or max is None else max,
            max_whole=self.max_whole if whole is None else whole,
            max_blob=self.max_blob if blob is None else blob,
        )

    def opened(self, exchange: Exchange, session: UploadSession) -> dict[str, str]:
        """What a POST's 202 says; every registry seen begins with ``0-0``, whatever its status says later."""
        return {
            **self.position(exchange, session),
            "Range": "0-0",
            **self.limit_headers(),
            **self.opening_headers,
        }

    def url(self, exchange: Exchange, path: str) -> str:
        """A path as this registry writes it in a Location."""
        return path if self.relative_locations else exchange.base + path

    def accepted(self, exchange: Exchange, session: UploadSession) -> dict[str, str]:
        """What the answer to a chunk says."""
        held = f"0-{session.size - 1}" if self.chunk_range is None else self.chunk_range(exchange, session)
        return {**self.position(exchange, session), "Range": held}

    def limit_headers(self) -> dict[str, str]:
        """The chunk limits as a registry announces them; nothing if it has none."""
        if not self.announces_limits:
            return {}
        limits = {"OCI-Chunk-Min-Length": self.min_chunk, "OCI-Chunk-Max-Length": self.max_chunk}
        return {name: str(value) for name, value in limits.items() if value is not None}

    def position(self, exchange: Exchange, session: UploadSession) -> dict[str, str]:
        """Where a session stands: Location, Range and id."""
        last = session.size - 1 + self.excess
        received = f"0-{last}" if session.size else self.empty_range
        return {
            "Location": self.location(exchange, session),
            "Range": received,
            "Docker-Upload-UUID": session.uuid,
        }

    def describe_blob(self, blob: Blob) -> tuple[str, int]:
        """Digest and size as a HEAD gives them."""
        if self.keeps_links and blob.link is not None:
            return of_bytes(blob.link), len(blob.link)
        return blob.digest, blob.size

    def authorizes(self, header: str | None, credentials: Credentials) -> bool:
        """Whether an Authorization header holds these Basic credentials."""
        scheme, _, value = (header or "").partition(" ")
        if scheme != "Basic" and not (self.scheme_ignores_case and scheme.lower() == "basic"):
            return False
        return value.strip() == base64.b64encode(":".join(credentials).encode()).decode()


def problem(status: int, code: str, message: str, detail: Any = None, **headers: str) -> Reply:
    """An error in the distribution API's form."""
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return Reply(status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())


def blob_stored(location: str, digest: str) -> Reply:
    """201: the blob is there."""
    return Reply(201, {"Location": location, "Docker-Content-Digest": digest})
