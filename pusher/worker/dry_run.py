"""Find out what a push would do, from the registry's responses; nothing is changed, here or there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.oci.index import parse_index
from pusher.oci.manifest import Manifest, parse_manifest
from pusher.oci.media_types import INDEXES, MANIFESTS
from pusher.reference import Reference
from pusher.registry.client import RegistryClient
from pusher.sources.base import SourceLayer
from pusher.sources.registry.source import mountable_repositories
from pusher.store.store import Store
from pusher.worker.compression import RequestedCompression
from pusher.worker.docker_blobs import find_pushed_image
from pusher.worker.enqueue import PreparedImage
from pusher.worker.registries import Registries
from pusher.worker.uncompressed_size import estimate_uncompressed_size

Action = Literal["exists", "mount", "send", "compress"]
TagState = Literal["current", "same_config", "other", "new"]


@dataclass(frozen=True)
class PlannedBlob:
    """What a push would do with one blob."""

    action: Action
    key: str
    """The diff ID of a layer, or the digest of another blob."""
    digest: str | None
    size: int | None
    """Bytes of the blob; None before it is compressed, or for a config before it is exported."""
    mount_from: str | None = None


@dataclass(frozen=True)
class PlannedPush:
    """What a push of an image to one destination would do."""

    image: str
    destination: Reference
    blobs: tuple[PlannedBlob, ...]
    tag: TagState
    """``current``: the tag names this image already; ``same_config``: one with the same config (an index: the
    same configs), whose layers are other blobs or, as long as some are not compressed, may be other ones;
    ``other``: another image; ``new``: there is no tag."""
    uncompressed_size: int | None = None
    """About how many bytes the layers that are to be compressed have at most; None if that is unknown."""

    @property
    def bytes_to_send(self) -> int:
        """Return the bytes of the blobs that would be sent as they are."""
        return sum(blob.size or 0 for blob in self.blobs if blob.action == "send")


def plan_pushes(
    prepared: Sequence[PreparedImage], store: Store | None, settings: Settings
) -> Iterator[PlannedPush]:
    """Yield the plan of each image for each of its destinations.

    ``store``: the known blobs of layers are looked up there. A blob that an earlier push of the same command
    sends to the repository counts as there, one that it sends to another repository as mountable. Raises
    the errors of a client.
    """
    registries = Registries(None, settings)
    sent: dict[str, dict[str, list[str]]] = {}  # by registry and blob, the repositories
    try:
        with ThreadPoolExecutor(settings.parallel) as pool:
            for image in prepared:
                for destination in image.destinations:
                    earlier = sent.setdefault(destination.registry, {})
                    plan = _Planner(image, destination, store, settings, registries, earlier).plan(pool)
                    for blob in plan.blobs:
                        earlier.setdefault(blob.digest or blob.key, []).append(destination.repository)
                    yield plan
    finally:
        registries.close()


class _Planner:
    """Plans the push of one image to one destination."""

    def __init__(
        self,
        image: PreparedImage,
        destination: Reference,
        store: Store | None,
        settings: Settings,
        registries: Registries,
        earlier: Mapping[str, Sequence[str]],
    ) -> None:
        self._image = image
        self._destination = destination
        self._store = store
        self._registries = registries
        self._earlier = earlier
        self._docker_root = settings.docker_root
        self._requested = RequestedCompression.for_job(image.options, settings)
        self._client = registries.client(destination.registry, destination.repository)

    def plan(self, pool: ThreadPoolExecutor) -> PlannedPush:
        found = self._image.found
        self._client.log_in(self._destination.repository)
        known = self._known_blobs({layer.key for layer in found.layers if layer.blob is None})
        blobs = list(pool.map(lambda layer: self._plan_layer(layer, known.get(layer.key, ())), found.layers))
        if all(blob.key != found.config_digest for blob in blobs):
            size = None if found.config is None else len(found.config)
            blobs.append(self._plan_blob(found.config_digest, [(found.config_digest, size)]))
        compressed = {blob.key for blob in blobs if blob.action == "compress"}
        return PlannedPush(
            self._image.image,
            self._destination,
            tuple(blobs),
            self._tag_state(blobs),
            estimate_uncompressed_size(found.pin, compressed) if compressed else None,
        )

    def _known_blobs(self, diff_ids: set[str]) -> Mapping[str, Sequence[tuple[str, int]]]:
        """Return digests and sizes of the blobs that were made of layers, by pusher or by Docker."""
        known: dict[str, list[tuple[str, int]]] = {}
        if self._store is not None:
            for diff_id, blobs in self._store.known_blobs.of_layers(diff_ids).items():
                usable = self._requested.usable_blobs(diff_id, blobs)
                known[diff_id] = [(blob.digest, blob.size) for blob in usable]
        unknown = {diff_id for diff_id in diff_ids if not known.get(diff_id)}
        pushed = find_pushed_image(
            self._client,
            self._destination.repository,
            self._destination.tag,
            self._image.found.pin,
            unknown,
            self._docker_root,
        )
        for diff_id, blob in pushed.blobs.items() if pushed is not None else ():
            if self._requested.accepts(blob.media_type):
                known[diff_id] = [(blob.digest, blob.size)]
        return known

    def _plan_layer(self, layer: SourceLayer, known: Sequence[tuple[str, int]]) -> PlannedBlob:
        return self._plan_blob(
            layer.key, known if layer.blob is None else [(layer.blob.digest, layer.blob.size)]
        )

    def _plan_blob(self, key: str, blobs: Sequence[tuple[str, int | None]]) -> PlannedBlob:
        """Return what becomes of a blob that may be any of ``blobs``: digests and sizes, the newest first."""
        repository = self._destination.repository
        for digest, size in blobs:
            if repository in self._earlier.get(digest, ()) or self._client.blob_exists(
                repository, digest, size
            ):
                return PlannedBlob("exists", key, digest, size)
        if repository in self._earlier.get(key, ()):
            return PlannedBlob("exists", key, None, None)
        for digest, size in blobs:
            if earlier := self._earlier.get(digest):
                return PlannedBlob("mount", key, digest, size, earlier[0])
        if earlier := self._earlier.get(key):
            return PlannedBlob("mount", key, None, None, earlier[0])
        for digest, size in blobs:
            for holder in self._holders(digest):
                if self._is_in(holder, digest, size):
                    return PlannedBlob("mount", key, digest, size, holder)
        if not blobs:
            return PlannedBlob("compress", key, None, None)
        return PlannedBlob("send", key, *blobs[0])

    def _holders(self, digest: str) -> list[str]:
        """Return other repositories of the registry that may have the blob."""
        registry = self._destination.registry
        holders = mountable_repositories(self._image.found.pin.to_json(), registry)
        if self._store is not None:
            holders += self._store.uploads.holders(registry, digest)
        return [name for name in dict.fromkeys(holders) if name != self._destination.repository]

    def _is_in(self, repository: str, digest: str, size: int | None) -> bool:
        try:
            client: RegistryClient = self._registries.client(self._destination.registry, repository)
            return client.blob_exists(repository, digest, size)
        except PusherError:  # this login may not read there
            return False

    def _tag_state(self, blobs: Sequence[PlannedBlob]) -> TagState:
        accept = ", ".join(sorted(MANIFESTS | INDEXES))
        reference = self._destination.tag
        root = self._image.found.root
        answer = self._client.head(f"manifests/{reference}", self._destination.repository, accept=accept)
        if not answer.ok:
            return "new"
        if root is not None:
            return "current" if answer.headers.get("Docker-Content-Digest") == root.digest else "other"
        if self._image.found.drafts:
            return self._state_of_drafts()
        raw = self._client.get_manifest(self._destination.repository, str(reference))
        try:
            there = parse_manifest(raw or b"")
        except ValueError:
            return "other"
        named = {there.config.digest, *(layer.digest for layer in there.layers)}
        if named == {blob.digest for blob in blobs}:
            return "current"
        return "same_config" if there.config.digest == self._image.found.config_digest else "other"

    def _state_of_drafts(self) -> TagState:
        """Return the state of a tag that exists, for manifests whose layers are to be compressed."""
        repository = self._destination.repository
        documents = [draft.document for draft in self._image.found.drafts]
        ours = {document.config.digest for document in documents if isinstance(document, Manifest)}
        try:
            index = parse_index(self._client.get_index(repository, str(self._destination.tag)) or b"")
            if len(index.children) > len(documents):
                return "other"
            raws = [self._client.get_manifest(repository, child.digest) for child in index.children]
            theirs = {parse_manifest(raw or b"").config.digest for raw in raws}
        except ValueError:
            return "other"
        return "same_config" if theirs == ours else "other"
