"""A client without any wit, so that the tests see exactly what a registry answers."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

REPOSITORY = "team/app"
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def code(self) -> str:
        """The first error's code; "" if the body holds none."""
        try:
            return str(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


class Client:
    """Speaks to one address, over one connection as long as it lasts."""

    def __init__(self, address: str, *, repository: str = REPOSITORY, timeout: float = 60.0) -> None:
        self.address = address
        self.repository = repository
        self.connection = http.client.HTTPConnection(address, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request; an absolute target's host is not looked at. Raises what http.client raises."""
        parts = urlsplit(target)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            self.connection.request(method, path, body, headers or {})
            reply = self.connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body)

    def path(self, rest: str) -> str:
        return f"/v2/{self.repository}/{rest}"

    def open(self, **query: str) -> Answer:
        target = self.path("blobs/uploads/") + (f"?{urlencode(query)}" if query else "")
        return self.request("POST", target, b"")

    def patch(
        self, location: str, data: bytes, at: int | None = None, *, content_range: str | None = None
    ) -> Answer:
        """A chunk; with a Content-Range if ``at`` or ``content_range`` is given."""
        if at is not None:
            content_range = f"{at}-{at + len(data) - 1}"
        extra = {} if content_range is None else {"Content-Range": content_range}
        return self.request("PATCH", location, data, {**_OCTETS, **extra})

    def close(self, location: str, digest: str, data: bytes = b"") -> Answer:
        joiner = "&" if "?" in location else "?"
        return self.request("PUT", f"{location}{joiner}{urlencode({'digest': digest})}", data, _OCTETS)

    def status(self, location: str) -> Answer:
        return self.request("GET", location)

    def cancel(self, location: str) -> Answer:
        return self.request("DELETE", location)

    def head_blob(self, digest: str) -> Answer:
        return self.request("HEAD", self.path(f"blobs/{digest}"))

    def get_blob(self, digest: str) -> Answer:
        return self.request("GET", self.path(f"blobs/{digest}"))

    def put_manifest(self, reference: str, manifest: dict[str, Any]) -> Answer:
        kind = manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
        raw = json.dumps(manifest).encode()
        return self.request("PUT", self.path(f"manifests/{reference}"), raw, {"Content-Type": kind})

    def push(self, data: bytes) -> str:
        """A blob in one PUT; its digest."""
        assert self.close(self.open().location, digest_of(data), data).status == 201
        return digest_of(data)

    def break_in_patch(self, location: str, data: bytes, sent: int, at: int | None = None) -> None:
        """Begin a chunk on a connection of its own and end the connection after ``sent`` bytes."""
        parts = urlsplit(location)
        host, port = self.address.split(":")
        lines = [
            f"PATCH {parts.path}?{parts.query} HTTP/1.1",
            f"Host: {self.address}",
            "Content-Type: application/octet-stream",
            f"Content-Length: {len(data)}",
        ]
        if at is not None:
            lines.append(f"Content-Range: {at}-{at + len(data) - 1}")
        with socket.create_connection((host, int(port)), timeout=60) as sock:
            sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data[:sent])
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(60)
            while sock.recv(4096):  # until the server has seen the end and given up
                pass


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)
