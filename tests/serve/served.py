"""A registry of ``pusher serve`` on a real socket, in this process; and what one pushes to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import requests
from starlette.types import ASGIApp

from pusher.oci.media_types import OCI_INDEX, OCI_MANIFEST
from pusher.serve.access import Access, Passwords
from pusher.serve.api import Api
from pusher.serve.app import make_app
from pusher.serve.local import LocalRegistry
from pusher.serve.metrics import Metrics
from pusher.serve.server import Address, Certificate, open_sockets, server_in_background
from tests.support.waiting import PATIENCE

EMPTY: Final = b"{}"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha512(data: bytes) -> str:
    return "sha512:" + hashlib.sha512(data).hexdigest()


@contextmanager
def listening(app: ASGIApp, certificate: Certificate | None = None) -> Iterator[int]:
    """Serve ``app`` in a thread; the port."""
    sockets = open_sockets(Address("127.0.0.1", 0))
    port = sockets[0].getsockname()[1]
    with server_in_background(app, sockets, certificate):
        yield port


class Served:
    """A registry in ``folder``, served as long as the context lasts."""

    def __init__(
        self,
        folder: Path,
        login: Passwords | None = None,
        *,
        is_local: bool = True,
        tls: Certificate | None = None,
    ) -> None:
        self.folder = folder
        self._access = Access(is_local, login)
        self._tls = tls
        self.http = requests.Session()
        self.http.trust_env = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.http.close()

    def start(self) -> None:
        self.registry = LocalRegistry(self.folder)
        self._context = listening(make_app(Api(self.registry), self._access, Metrics()), self._tls)
        self.port = self._context.__enter__()
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._context.__exit__(None, None, None)
        self.registry.close()

    def ask(self, method: str, path: str, *args: Any, **options: Any) -> requests.Response:
        """A request; ``path`` is a Location, or what comes after it."""
        return self.http.request(method, f"{self.url}{path}", *args, **{"timeout": PATIENCE, **options})


class Repository:
    """One repository of a served registry."""

    def __init__(self, served: Served, name: str) -> None:
        self.served = served
        self.name = name
        self.path = f"/v2/{name}"

    def ask(self, method: str, path: str, *args: Any, **options: Any) -> requests.Response:
        return self.served.ask(method, f"{self.path}/{path}", *args, **options)

    def open(self, query: str = "") -> str:
        """Open an upload; its location."""
        answer = self.ask("POST", f"blobs/uploads/{query}")
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    def push_blob(self, data: bytes, digest: str | None = None) -> str:
        digest = digest or sha256(data)
        answer = self.ask("POST", f"blobs/uploads/?digest={digest}", data=data)
        assert answer.status_code == 201, answer.text
        return digest

    def image(self, *layers: bytes, **fields: Any) -> bytes:
        """A manifest whose blobs are pushed."""
        return manifest(*[descriptor(self.push_blob(layer), layer) for layer in (EMPTY, *layers)], **fields)

    def push(
        self, raw: bytes, reference: str | None = None, media_type: str | None = None
    ) -> requests.Response:
        """Push a manifest, by digest if nothing else is said."""
        kind = media_type or json.loads(raw)["mediaType"]
        return self.ask(
            "PUT", f"manifests/{reference or sha256(raw)}", data=raw, headers={"Content-Type": kind}
        )


def descriptor(digest: str, data: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def manifest(config: dict[str, Any], *layers: dict[str, Any], **fields: Any) -> bytes:
    """An image manifest; its config comes first."""
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers, **fields},
        indent=3,
    ).encode()


def index(*children: bytes, **fields: Any) -> bytes:
    """An index of manifests."""
    listed = [descriptor(sha256(child), child, json.loads(child)["mediaType"]) for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **fields}).encode()


def codes(answer: requests.Response) -> list[str]:
    """The codes of an answer's errors."""
    assert answer.headers["Content-Type"] == "application/json"
    errors = answer.json()["errors"]
    assert all(error["message"] for error in errors)
    return [error["code"] for error in errors]
