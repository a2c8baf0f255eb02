"""Define pins: what a job stores of its source, so that a worker opens the same image. One class a kind.

``to_json`` returns JSON values, with ``kind`` and never a secret; ``pin_from_json`` reads them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pusher.dataclass import dataclass
from pusher.errors import StoreCorrupt
from pusher.sources.base import EVERYTHING, Choice, Json, Pin
from pusher.sources.decompression import Unpacked
from pusher.sources.split.layer_plan import LayerPlan


@dataclass(frozen=True)
class ArchivePin:
    """An image in a docker-archive file, found again by the digest of its config."""

    kind: ClassVar = "docker-archive"
    path: Path
    name: str | None
    """The image in the archive, as typed."""
    config_digest: str
    size: int
    """Bytes of the file."""
    mtime_ns: int
    root_digest: str | None = None
    """Of the manifest or index that is pushed; None where the archive has none."""
    choice: Choice = EVERYTHING
    unpacked: tuple[Unpacked, ...] = ()
    """Diff IDs of its compressed layers, valid while the file's size and time are unchanged."""

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "name": self.name,
            "config_digest": self.config_digest,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "root_digest": self.root_digest,
            "choice": self.choice.to_json(),
            "unpacked": [vars(each) for each in self.unpacked],
        }

    @classmethod
    def from_json(cls, data: Json) -> ArchivePin:
        """Read what ``to_json`` gave."""
        return cls(
            Path(data["path"]),
            data["name"],
            data["config_digest"],
            data["size"],
            data["mtime_ns"],
            data["root_digest"],
            Choice.from_json(data["choice"]),
            tuple(Unpacked(**each) for each in data["unpacked"]),
        )


@dataclass(frozen=True)
class LayoutPin:
    """An image in an OCI layout: a folder (``oci``) or a tar (``oci-archive``)."""

    kind: str
    path: Path
    name: str | None
    """The image in the layout, as typed."""
    root_digest: str
    choice: Choice

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "name": self.name,
            "root_digest": self.root_digest,
            "choice": self.choice.to_json(),
        }

    @classmethod
    def from_json(cls, data: Json) -> LayoutPin:
        """Read what ``to_json`` gave."""
        choice = Choice.from_json(data["choice"])
        return cls(data["kind"], Path(data["path"]), data["name"], data["root_digest"], choice)


@dataclass(frozen=True)
class DirPin:
    """The image of a ``dir:`` folder."""

    kind: ClassVar = "dir"
    path: Path
    root_digest: str
    choice: Choice

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "root_digest": self.root_digest,
            "choice": self.choice.to_json(),
        }

    @classmethod
    def from_json(cls, data: Json) -> DirPin:
        """Read what ``to_json`` gave."""
        return cls(Path(data["path"]), data["root_digest"], Choice.from_json(data["choice"]))


@dataclass(frozen=True)
class EnginePin:
    """An image in an engine (``docker-daemon``, ``podman``, ``nerdctl``), asked for by its ID."""

    kind: str
    name: str
    """As typed."""
    id: str
    """What the engine is asked for: the digest of the config, or of the manifest or index in containerd."""
    diff_ids: tuple[str, ...]
    choice: Choice
    daemon: Mapping[str, str | None]
    """The environment variables that say which daemon is meant; None for one that must not be set."""
    root_digest: str | None = None
    """Of what is pushed, where the engine keeps manifests; else None."""
    documents: tuple[bytes, ...] = ()
    """The manifests, indexes and configs below it."""
    storage: Path | None = None
    """The engine's folder, if the layers are read from there."""
    driver: str | None = None
    """Of the storage."""

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "diff_ids": list(self.diff_ids),
            "choice": self.choice.to_json(),
            "daemon": dict(self.daemon),
            "root_digest": self.root_digest,
            "documents": _texts(self.documents),
            "storage": None if self.storage is None else str(self.storage),
            "driver": self.driver,
        }

    @classmethod
    def from_json(cls, data: Json) -> EnginePin:
        """Read what ``to_json`` gave."""
        return cls(
            data["kind"],
            data["name"],
            data["id"],
            tuple(data["diff_ids"]),
            Choice.from_json(data["choice"]),
            dict(data["daemon"]),
            data["root_digest"],
            _raws(data["documents"]),
            None if data["storage"] is None else Path(data["storage"]),
            data["driver"],
        )


@dataclass(frozen=True)
class StoragePin:
    """An image in the storage of an engine that need not run (``docker-storage``, ``containers-storage``)."""

    kind: str
    name: str
    """As typed."""
    root: Path
    """The storage's folder."""
    driver: str | None
    id: str
    """The digest of the config."""

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "root": str(self.root),
            "driver": self.driver,
            "id": self.id,
        }

    @classmethod
    def from_json(cls, data: Json) -> StoragePin:
        """Read what ``to_json`` gave."""
        return cls(data["kind"], data["name"], Path(data["root"]), data["driver"], data["id"])


@dataclass(frozen=True)
class ListPin:
    """The images of a manifest list in Podman's storage."""

    kind: ClassVar = "podman-list"
    name: str
    """As typed."""
    root: Path
    """The storage's folder."""
    driver: str
    with_save: bool
    """Whether the layers are read from `podman save` and not from the storage."""
    documents: tuple[bytes, ...]
    """The manifests and the list, each after what it lists."""
    configs: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "root": str(self.root),
            "driver": self.driver,
            "with_save": self.with_save,
            "documents": _texts(self.documents),
            "configs": _texts(self.configs),
        }

    @classmethod
    def from_json(cls, data: Json) -> ListPin:
        """Read what ``to_json`` gave."""
        return cls(
            data["name"],
            Path(data["root"]),
            data["driver"],
            data["with_save"],
            _raws(data["documents"]),
            _raws(data["configs"]),
        )


@dataclass(frozen=True)
class ContentStorePin:
    """An image in containerd's content store."""

    kind: ClassVar = "containerd-store"
    root: Path
    """The store's folder."""
    root_digest: str
    name: str
    """As typed."""
    choice: Choice

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "root": str(self.root),
            "root_digest": self.root_digest,
            "name": self.name,
            "choice": self.choice.to_json(),
        }

    @classmethod
    def from_json(cls, data: Json) -> ContentStorePin:
        """Read what ``to_json`` gave."""
        choice = Choice.from_json(data["choice"])
        return cls(Path(data["root"]), data["root_digest"], data["name"], choice)


@dataclass(frozen=True)
class RegistryPin:
    """An image in another registry (``docker://``)."""

    kind: ClassVar = "docker"
    registry: str
    repository: str
    root_digest: str
    choice: Choice

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "registry": self.registry,
            "repository": self.repository,
            "root_digest": self.root_digest,
            "choice": self.choice.to_json(),
        }

    @classmethod
    def from_json(cls, data: Json) -> RegistryPin:
        """Read what ``to_json`` gave."""
        choice = Choice.from_json(data["choice"])
        return cls(data["registry"], data["repository"], data["root_digest"], choice)


@dataclass(frozen=True)
class SplitPin:
    """An image of another source, its large layers split (``--split-layers``)."""

    kind: ClassVar = "split"
    inner: Pin
    size: int
    """The most bytes of a blob."""
    config: bytes
    """That of the split image."""
    plans: tuple[LayerPlan, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values."""
        return {
            "kind": self.kind,
            "inner": self.inner.to_json(),
            "size": self.size,
            "config": self.config.decode(),
            "plans": [plan.to_json() for plan in self.plans],
        }

    @classmethod
    def from_json(cls, data: Json) -> SplitPin:
        """Read what ``to_json`` gave."""
        plans = tuple(LayerPlan.from_json(plan) for plan in data["plans"])
        return cls(pin_from_json(data["inner"]), data["size"], data["config"].encode(), plans)


_READERS: Final[Mapping[str, Callable[[Json], Pin]]] = {
    ArchivePin.kind: ArchivePin.from_json,
    "oci": LayoutPin.from_json,
    "oci-archive": LayoutPin.from_json,
    DirPin.kind: DirPin.from_json,
    "docker-daemon": EnginePin.from_json,
    "podman": EnginePin.from_json,
    "nerdctl": EnginePin.from_json,
    "docker-storage": StoragePin.from_json,
    "containers-storage": StoragePin.from_json,
    ListPin.kind: ListPin.from_json,
    ContentStorePin.kind: ContentStorePin.from_json,
    RegistryPin.kind: RegistryPin.from_json,
    SplitPin.kind: SplitPin.from_json,
}


def pin_from_json(data: Json) -> Pin:
    """Read the pin of a job; StoreCorrupt if pusher did not write it."""
    try:
        return _READERS[data["kind"]](data)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            "the job store holds a job whose source cannot be read", hint="run: pusher db check"
        ) from error


def _texts(raws: Sequence[bytes]) -> list[str]:
    return [raw.decode("utf-8", "surrogateescape") for raw in raws]


def _raws(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)
