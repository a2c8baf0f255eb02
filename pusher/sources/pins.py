"""Define pins: what a job stores of its source, so that a worker opens the same image. One class a kind.

Never a secret: the job store has them as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeAlias

from pusher.dataclass import dataclass
from pusher.errors import StoreCorrupt
from pusher.sources.base import EVERYTHING, Choice, Json, Pin
from pusher.sources.decompression import Unpacked
from pusher.sources.split.layer_plan import LayerPlan


@dataclass(frozen=True)
class _StoredPin:
    """A pin whose fields are stored under their names."""

    def to_json(self: Pin) -> dict[str, Any]:
        """Return the pin as JSON values."""
        values = {"kind": self.kind, **vars(self)}
        return {name: _FORMATS.get(name, _AS_IS)[0](value) for name, value in values.items()}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read what ``to_json`` returned."""
        values = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{name: _FORMATS.get(name, _AS_IS)[1](value) for name, value in values.items()})


@dataclass(frozen=True)
class ArchivePin(_StoredPin):
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


@dataclass(frozen=True)
class LayoutPin(_StoredPin):
    """An image in an OCI layout: a folder (``oci``) or a tar (``oci-archive``)."""

    kind: str
    path: Path
    name: str | None
    """The image in the layout, as typed."""
    root_digest: str
    choice: Choice


@dataclass(frozen=True)
class DirPin(_StoredPin):
    """The image of a ``dir:`` folder."""

    kind: ClassVar = "dir"
    path: Path
    root_digest: str
    choice: Choice


@dataclass(frozen=True)
class EnginePin(_StoredPin):
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


@dataclass(frozen=True)
class StoragePin(_StoredPin):
    """An image in the storage of an engine that need not run (``docker-storage``, ``containers-storage``)."""

    kind: str
    name: str
    """As typed."""
    root: Path
    """The storage's folder."""
    driver: str | None
    id: str
    """The digest of the config."""


@dataclass(frozen=True)
class ListPin(_StoredPin):
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


@dataclass(frozen=True)
class ContentStorePin(_StoredPin):
    """An image in containerd's content store."""

    kind: ClassVar = "containerd-store"
    root: Path
    """The store's folder."""
    root_digest: str
    name: str
    """As typed."""
    choice: Choice


@dataclass(frozen=True)
class RegistryPin(_StoredPin):
    """An image in another registry (``docker://``)."""

    kind: ClassVar = "docker"
    registry: str
    repository: str
    root_digest: str
    choice: Choice


@dataclass(frozen=True)
class SplitPin(_StoredPin):
    """An image of another source, its large layers split (``--split-layers``)."""

    kind: ClassVar = "split"
    inner: Pin
    size: int
    """The most bytes of a blob."""
    config: bytes
    """That of the split image."""
    plans: tuple[LayerPlan, ...]


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


_Format: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_AS_IS: Final[_Format] = (lambda value: value, lambda value: value)
_FORMATS: Final[Mapping[str, _Format]] = {
    "path": (str, Path),
    "root": (str, Path),
    "storage": (lambda path: path and str(path), lambda text: text and Path(text)),
    "choice": (Choice.to_json, Choice.from_json),
    "unpacked": (
        lambda files: list(map(vars, files)),
        lambda files: tuple(Unpacked(**file) for file in files),
    ),
    "diff_ids": (list, tuple),
    "daemon": (dict, dict),
    "documents": (_texts, _raws),
    "configs": (_texts, _raws),
    "inner": (lambda pin: pin.to_json(), pin_from_json),
    "config": (bytes.decode, str.encode),
    "plans": (
        lambda plans: [plan.to_json() for plan in plans],
        lambda plans: tuple(map(LayerPlan.from_json, plans)),
    ),
}
"""How a field is written and read, by its name, which has one type in all pins. Others are JSON values."""
