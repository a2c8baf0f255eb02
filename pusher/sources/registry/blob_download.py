"""Download one blob in as many requests as needed: each continues at the offset of the last one.

Requests use ranges (RFC 9110 14; distribution-spec, "Pulling blobs"), which a registry need not support:
serverless-registry sends the whole blob again. Bytes count only once all together have the blob's digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from pusher.errors import (
    ConnectionBroken,
    ImageChanged,
    LayerMismatch,
    PermissionDenied,
    PusherError,
    RegistryFault,
)
from pusher.oci.digest import short
from pusher.registry.answers import refusal
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer, size_in
from pusher.registry.http.redaction import host_of

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_GIVEN: Final = (200, 206)
_RANGE_UNFIT: Final = 416


class Sink(Protocol):
    """The target of a download; it keeps its bytes when a request breaks."""

    @property
    def size(self) -> int:
        """Return the bytes held."""

    def write(self, data: bytes | memoryview) -> None:
        """Append the next bytes."""

    def rewind(self) -> None:
        """Expect the same bytes again, from the first one on."""

    def reset(self) -> None:
        """Drop all bytes."""

    def digest(self) -> str:
        """Return the digest of the bytes held."""


class BlobDownload:
    """Downloads a blob of ``size`` bytes into ``sink``, after the bytes there.

    ``on_bytes`` is called after every block that was written and may raise to stop. ``note`` gets a sentence
    if bytes have to be fetched a second time.
    """

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        digest: str,
        size: int,
        sink: Sink,
        *,
        on_bytes: Callable[[], None] = lambda: None,
        note: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        self._client = client
        self._repository = repository
        self._digest = digest
        self._size = size
        self._sink = sink
        self._on_bytes = on_bytes
        self._note = note
        self._restarted = False

    def run(self) -> None:
        """Fetch what is missing. Wrong bytes are dropped and fetched once more.

        Call it again after a temporary error. Raises ImageChanged if the blob is gone,
        LayerMismatch if the registry sends wrong bytes again, and the client's and the sink's errors.
        """
        while True:
            if self._sink.size > self._size:  # another blob's, or a modified file
                self._sink.reset()
            if self._sink.size < self._size:
                self._fetch()
            if self._sink.digest() == self._digest:
                return
            self._sink.reset()
            if self._restarted:
                raise LayerMismatch(
                    f"{self._where} sends other bytes for the blob {self._digest} than it says",
                    hint="something on the way changes them, or the registry's storage is damaged; try "
                    "another network, or push the image to that registry again",
                )
            self._restarted = True
            self._note(
                f"{short(self._digest)}: what came from {self._where} is not that blob; fetching it again"
            )

    def _fetch(self) -> None:
        start = self._sink.size
        answer = self._client.get_blob(self._repository, self._digest, self, start)
        if answer.status == _RANGE_UNFIT and start:
            self._sink.reset()
            answer = self._client.get_blob(self._repository, self._digest, self)
        if answer.status not in _GIVEN:
            raise self._refusal(answer)
        if self._sink.size < self._size:
            raise ConnectionBroken(
                f"{host_of(answer.url)} ended the blob {short(self._digest)} after {self._sink.size} of its "
                f"{self._size} bytes"
            )

    # --- the transport's receiver -------------------------------------------------------------------------

    def begin(self, answer: Answer) -> bool:
        """Return whether the body is the blob, or its part after the bytes held."""
        if answer.status not in _GIVEN:
            return False
        held = self._sink.size
        if answer.status == 200:
            self._check_total(answer, size_in(answer.headers, "Content-Length"))
            if held:
                self._note(
                    f"{short(self._digest)}: {self._where} does not continue at byte {held}; starting again"
                )
                self._sink.rewind()
            return True
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != held:
            self._sink.reset()
            raise RegistryFault(
                f"{host_of(answer.url)} sends another part of the blob {short(self._digest)} than it was "
                "asked for",
                hint="pusher fetches it from its beginning",
            )
        self._check_total(answer, None if found[2] == "*" else int(found[2]))
        return True

    def write(self, data: bytes | memoryview) -> None:
        """Append the next bytes of the body."""
        if self._sink.size + len(data) > self._size:
            raise self._wrong_size_error(f"more than {self._size}")
        self._sink.write(data)
        self._on_bytes()

    # --- what is wrong ------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._client.registry}/{self._repository}"

    def _check_total(self, answer: Answer, total: int | None) -> None:
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        if total is not None and not encoded and total != self._size:
            raise self._wrong_size_error(f"{total}")

    def _wrong_size_error(self, found: str) -> LayerMismatch:
        self._sink.reset()
        return LayerMismatch(
            f"{self._where} has {found} bytes for the blob {self._digest}, its manifest says {self._size}",
            hint="the image in that registry is damaged; push it there again",
        )

    def _refusal(self, answer: Answer) -> PusherError:
        if answer.status in (404, 410):
            return ImageChanged(
                f"{self._where} no longer has the blob {self._digest}; the image was deleted there",
                hint="see whether it is there under another tag, and enqueue that: "
                f"pusher enqueue docker://{self._where}:TAG --to REFERENCE",
            )
        return pull_refusal(answer, self._client, doing=f"reading the blob {self._digest}")


def pull_refusal(answer: Answer, client: RegistryClient, *, doing: str) -> PusherError:
    """Return the error for a GET that was refused."""
    error = refusal(answer, doing=doing)
    if not isinstance(error, PermissionDenied):
        return error
    if not client.is_from_registry(answer):  # a signed URL expired: the registry returns a new one
        return RegistryFault(error.message, hint="pusher asks the registry for a new address and continues")
    return PermissionDenied(
        error.message, hint="ask the registry's administrator for permission to pull from this repository"
    )
