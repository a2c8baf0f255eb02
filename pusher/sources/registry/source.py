"""Read an image in a registry: ``docker://REFERENCE``.

Its blobs are final: what the destination lacks is mounted if both are in one registry, or fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pusher.errors import CredentialsMissing, ImageNotFound, ImageUnsupported, LayerMismatch, PusherError
from pusher.oci import media_types
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.manifest import Descriptor
from pusher.reference import Reference
from pusher.registry.answers import is_temporary
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.retry import DEFAULT, Attempts, RetryPolicy, retrying
from pusher.sources.base import EVERYTHING, Choice, InPlace, Json, SourceImage
from pusher.sources.document_reader import MAX_DOCUMENT
from pusher.sources.image_tree import Tree
from pusher.sources.pins import RegistryPin
from pusher.sources.registry.blob_download import BlobDownload, Sink, pull_refusal
from pusher.sources.registry.names import own_name
from pusher.waiting import pause

_SCHEMA_1: Final = (media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED)
_ACCEPT: Final = ", ".join(
    (
        *(media_types.OCI_INDEX, media_types.DOCKER_LIST),
        *(media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST),
        *_SCHEMA_1,  # last: an image of only this type is refused with the reason
    )
)
_MAX_SMALL: Final = 4 * MAX_DOCUMENT
"""Bytes of all manifests and configs of one image together."""


class RegistrySource(InPlace):
    """One image in a registry. ``connect`` returns the client for a registry and repository."""

    def __init__(
        self,
        reference: Reference,
        connect: Callable[[str, str], RegistryClient],
        choice: Choice = EVERYTHING,
        *,
        retry: RetryPolicy = DEFAULT,
    ) -> None:
        self.reference = reference
        self._connect = connect
        self._choice = choice
        self._retry = retry
        self._small: dict[str, bytes | None] = {}

    @classmethod
    def from_pin(
        cls, pin: RegistryPin, connect: Callable[[str, str], RegistryClient], *, retry: RetryPolicy
    ) -> RegistrySource:
        """Return the source of a job, from its pin."""
        place = Reference(pin.registry, pin.repository, digest=pin.root_digest)
        return cls(place, connect, pin.choice, retry=retry)

    def own_name(self) -> str | None:
        """Return the reference without digest; None if it has no tag."""
        return own_name(self.reference)

    def resolve(self) -> SourceImage:
        """Read manifests and configs. Raises the client's errors and those of every source."""
        client = self._connect(self.reference.registry, self.reference.repository)
        root = self._root(client)
        tree = Tree(
            root,
            lambda descriptor: self._read(client, descriptor),
            lambda blob: True,  # noqa: ARG005 - a registry takes no manifest without its blobs
            self._choice,
            where=str(self.reference),
        )
        pin = RegistryPin(self.reference.registry, self.reference.repository, root.digest, self._choice)
        return tree.image(lambda blob: None, pin)  # noqa: ARG005 - nothing is on this disk

    def fetch(
        self,
        digest: str,
        size: int,
        sink: Sink,
        *,
        on_bytes: Callable[[bool], None],
        on_retry: Callable[[float, PusherError], object],
        note: Callable[[str], None],
    ) -> None:
        """Download a blob of ``size`` bytes into ``sink``, after the bytes there.

        ``on_bytes`` is called after every block with whether it made the blob longer than before, and
        ``on_retry`` with a pause (seconds) and its error: it sleeps. Both may raise to stop. Raises the
        errors of ``BlobDownload`` after the last retry.
        """
        attempts = Attempts(self._retry.step)
        furthest = sink.size
        download: BlobDownload | None = None

        def count() -> None:
            nonlocal furthest
            is_progress = sink.size > furthest  # bytes downloaded a second time do not count
            if is_progress:
                furthest = sink.size
                attempts.reset()
            on_bytes(is_progress)

        def run() -> None:
            nonlocal download
            if download is None:
                client = self._connect(self.reference.registry, self.reference.repository)
                download = BlobDownload(
                    client, self.reference.repository, digest, size, sink, on_bytes=count, note=note
                )
            download.run()

        retrying(run, attempts, on_retry)

    def _root(self, client: RegistryClient) -> Descriptor:
        """Return the manifest or index that the reference names. A digest wins over a tag."""
        wanted = self.reference.digest
        answer = self._get(client, f"manifests/{wanted or self.reference.tag}")
        if answer.status in (404, 410):
            raise ImageNotFound(
                f"there is no image {self.reference} in {client.registry}",
                hint="check its name and tag; a private one is only seen after: "
                f"pusher login {client.registry}",
            )
        if not answer.ok:
            raise pull_refusal(answer, client, doing=f"reading the manifest of {self.reference}")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if len(answer.body) > MAX_DOCUMENT:
            raise _too_large_error(f"the manifest of {self.reference}")
        expected = wanted or answer.headers.get("Docker-Content-Digest", "")
        found = of_bytes(answer.body, expected if is_digest(expected) else None)
        if is_digest(expected) and expected != found and media_type not in _SCHEMA_1:
            raise LayerMismatch(
                f"{client.registry} sends other bytes for {self.reference} than its digest {expected} says",
                hint="something on the way changes them; try another network, or report it to the "
                "registry's administrator",
            )
        self._small[found] = answer.body
        return Descriptor(media_type, found, len(answer.body))

    def _read(self, client: RegistryClient, descriptor: Descriptor) -> bytes | None:
        """Return a manifest or config; the Tree reads some several times."""
        digest = descriptor.digest
        if digest not in self._small:
            kept = sum(len(raw) for raw in self._small.values() if raw is not None)
            if descriptor.size > min(MAX_DOCUMENT, _MAX_SMALL - kept):
                raise _too_large_error(f"what describes {self.reference}")
            self._small[digest] = self._fetch(client, descriptor)
        return self._small[digest]

    def _fetch(self, client: RegistryClient, descriptor: Descriptor) -> bytes | None:
        is_document = descriptor.media_type in media_types.MANIFESTS | media_types.INDEXES
        answer = self._get(client, f"{'manifests' if is_document else 'blobs'}/{descriptor.digest}")
        if answer.status in (404, 410):
            return None
        if not answer.ok:
            raise pull_refusal(answer, client, doing=f"reading {descriptor.digest}")
        if of_bytes(answer.body, descriptor.digest) != descriptor.digest:
            raise LayerMismatch(
                f"{self.reference.name} sends other bytes for {descriptor.digest} than its digest says",
                hint="something on the way changes them; try another network, or report it to the "
                "registry's administrator",
            )
        return answer.body

    def _get(self, client: RegistryClient, path: str) -> Answer:
        def ask() -> Answer:
            answer = client.get_small(
                path,
                self.reference.repository,
                accept=_ACCEPT if path.startswith("manifests/") else "*/*",
                limit=MAX_DOCUMENT + 1,
            )
            if is_temporary(answer):
                raise pull_refusal(answer, client, doing=f"reading {path} of {self.reference.name}")
            return answer

        def wait(seconds: float, error: PusherError) -> None:
            pause(seconds, error.message)

        return retrying(ask, Attempts(self._retry.reading), wait)


def mountable_repositories(source: Json, registry: str) -> list[str]:
    """Return the repositories of ``registry`` that hold the blobs of a job because its image is there."""
    if source["kind"] != RegistryPin.kind:
        return []
    pin = RegistryPin.from_json(source)
    return [pin.repository] if pin.registry == registry else []


def add_login_hint(error: CredentialsMissing, registry: str, destination: str | None) -> CredentialsMissing:
    """Return the error with advice for the source's registry: --username is for the destination's."""
    if registry == destination:
        return error
    return CredentialsMissing(error.message, hint=f"pusher login {registry}")


def _too_large_error(what: str) -> ImageUnsupported:
    return ImageUnsupported(
        f"{what} is larger than any registry should take: more than {MAX_DOCUMENT} bytes",
        hint="build the image again with smaller manifests and configs",
    )
