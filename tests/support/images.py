"""Images and image archives of every shape, made without any engine; every digest is known.

The same arguments always give the same bytes. Sizes are in bytes and are those of the one file in a layer;
its tar is up to 11 KiB larger. Real engines load the shapes ``classic``, ``docker25`` and ``podman``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import zstandard

Shape = Literal["classic", "docker25", "containerd", "podman", "compressed"]
"""``classic``: docker save before 25. ``docker25``: from 25 on, graph driver. ``containerd``: the containerd
image store (compressed blobs, nested index). ``podman``: podman save. ``compressed``: podman's names, but the
layers are gzip-compressed and there is no manifest, as some tools write them."""

SHAPES: tuple[Shape, ...] = ("classic", "docker25", "containerd", "podman", "compressed")
UNCOMPRESSED: tuple[Shape, ...] = ("classic", "docker25", "podman")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def sha256(data: bytes) -> str:
    """The digest of ``data``, computed here so that a test does not believe the code it tests."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def unpacked(blob: bytes) -> bytes:
    """A layer's tar from its blob: gzip (members and all), zstd (every frame), or as it is."""
    if blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(blob)
    if blob.startswith(b"\x28\xb5\x2f\xfd"):
        reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
        return reader.read()
    return blob


def random_bytes(size: int, seed: int = 0, *, compressible: float = 0.5) -> bytes:
    """``size`` deterministic bytes; that share of them (in blocks of 4 KiB) is text that compresses well."""
    source = random.Random(f"{size}/{seed}")
    text = (b"the quick brown fox %d\n" % seed) * 256
    blocks: list[bytes] = []
    for start in range(0, size, 4096):
        length = min(4096, size - start)
        blocks.append(text[:length] if source.random() < compressible else source.randbytes(length))
    return b"".join(blocks)


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """An uncompressed tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, 1_600_000_000
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@dataclass(frozen=True)
class Layer:
    """One layer: its uncompressed tar, and the gzip that stands for it where a shape needs one."""

    tar: bytes = field(repr=False)

    @cached_property
    def diff_id(self) -> str:
        return sha256(self.tar)

    @cached_property
    def gzip(self) -> bytes:
        return gzip.compress(self.tar, compresslevel=1, mtime=0)

    @cached_property
    def digest(self) -> str:
        """Digest of ``gzip``."""
        return sha256(self.gzip)


def make_layer(size: int, seed: int = 0, *, compressible: float = 0.5) -> Layer:
    """A layer with one file of ``size`` bytes whose name depends on the seed."""
    return Layer(tar_of([(f"data-{seed}.bin", random_bytes(size, seed, compressible=compressible))]))


@dataclass(frozen=True)
class Image:
    """An image: its exact config bytes, its layers from the bottom up, and the names it is tagged with."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...] = ()
    comment: str = ""
    architecture: str = "amd64"

    @cached_property
    def config(self) -> bytes:
        document = {
            "architecture": self.architecture,
            "comment": self.comment,
            "config": {"Cmd": ["/none"], "Env": ["PATH=/bin"]},
            "created": "2020-09-13T12:26:40Z",
            "history": [
                {"created": "2020-09-13T12:26:40Z", "created_by": f"layer {n}"}
                for n in range(len(self.layers))
            ],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @cached_property
    def config_digest(self) -> str:
        return sha256(self.config)

    @cached_property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)

    @cached_property
    def manifest(self) -> bytes:
        """The OCI manifest with compressed layers, as the containerd image store keeps it (indented: its
        bytes are those of whoever built it)."""
        layers = [_descriptor(f"{OCI_LAYER}+gzip", layer.gzip) for layer in self.layers]
        return json.dumps(_manifest(_descriptor(OCI_CONFIG, self.config), layers), indent=2).encode()


def make_image(
    *sizes: int,
    names: Sequence[str] = ("registry.example.com/team/app:1.2",),
    seed: int = 0,
    compressible: float = 0.5,
) -> Image:
    """An image with a layer for each size; the same size and seed give the same layer in another image too
    if it stands at the same position."""
    layers = tuple(
        make_layer(size, seed * 1000 + n, compressible=compressible) for n, size in enumerate(sizes)
    )
    return Image(layers, tuple(names), comment=f"seed {seed}")


@dataclass(frozen=True)
class Entry:
    """One entry of an archive to be written."""

    name: str
    data: bytes | None = field(default=None, repr=False)
    """None: a folder, or a symlink if ``target`` is set."""
    target: str | None = None


def entries(shape: Shape, *images: Image) -> list[Entry]:
    """The entries of an archive in its tool's order; change them as needed, then ``write_tar``."""
    if shape in ("docker25", "containerd"):
        return _layout_entries(images, compressed=shape == "containerd")
    if shape == "classic":
        return _classic_entries(images)
    return _podman_entries(images, compressed=shape == "compressed")


def write_tar(path: Path, content: Iterable[Entry], *, tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    """Write entries as a tar; with ``tarfile.PAX_FORMAT`` each gets a pax header, as Go writes it."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        for entry in content:
            member = tarfile.TarInfo(entry.name)
            member.mtime = 1_600_000_000.5 if tar_format == tarfile.PAX_FORMAT else 1_600_000_000
            if entry.data is not None:
                member.size, member.mode = len(entry.data), 0o644
                tar.addfile(member, io.BytesIO(entry.data))
            elif entry.target is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
                tar.addfile(member)
            else:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
    return path


def write_archive(
    path: Path, *images: Image, shape: Shape = "classic", tar_format: int = tarfile.USTAR_FORMAT
) -> Path:
    """A docker-archive with these images, as the shape's tool would have written it."""
    return write_tar(path, entries(shape, *images), tar_format=tar_format)


def write_undescribed(path: Path, *images: Image) -> Path:
    """A ``classic`` archive without what tells which layer is in which folder before ``manifest.json``."""
    return write_tar(path, [each for each in entries("classic", *images) if not each.name.endswith("/json")])


def write_big_archive(path: Path, layer_sizes: Sequence[int], *, name: str, seed: int = 0) -> Image:
    """A ``classic`` archive layer by layer, for sizes that should not lie in memory all at once.

    Returns the image; its layers know their diff IDs and no bytes.
    """
    layers: list[Layer] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for position, size in enumerate(layer_sizes):
            layer = make_layer(size, seed * 1000 + position)
            _add(tar, f"{_hex(layer.diff_id)}/layer.tar", layer.tar)
            layers.append(_Known(layer.diff_id))
        image = Image(tuple(layers), (name,), comment=f"seed {seed}")
        paths = [f"{_hex(layer.diff_id)}/layer.tar" for layer in layers]
        _add(tar, f"{_hex(image.config_digest)}.json", image.config)
        _add(tar, "manifest.json", _manifest_json([(image, f"{_hex(image.config_digest)}.json", paths)]))
    return image


class _Known(Layer):
    """A layer of which only the diff ID is kept."""

    def __init__(self, diff_id: str) -> None:
        super().__init__(b"")
        self.__dict__["diff_id"] = diff_id


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o644, 1_600_000_000
    tar.addfile(member, io.BytesIO(data))


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def _manifest(config: dict[str, object], layers: list[dict[str, object]]) -> dict[str, object]:
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}


def _manifest_json(images: Iterable[tuple[Image, str, list[str]]]) -> bytes:
    return _json(
        [
            {"Config": config, "RepoTags": list(image.names) or None, "Layers": paths}
            for image, config, paths in images
        ]
    )


def _repositories(images: Iterable[Image]) -> bytes:
    found: dict[str, dict[str, str]] = {}
    for image in images:
        for name in image.names:
            repository, _, tag = name.rpartition(":")
            found.setdefault(repository, {})[tag] = _v1_id(image, len(image.layers) - 1)
    return _json(found)


def _v1_id(image: Image, position: int) -> str:
    """The v1 ID of a layer, as Docker computes it: of its description and its chain ID."""
    chain_id = ""
    for diff_id in image.diff_ids[: position + 1]:
        chain_id = sha256(f"{chain_id} {diff_id}".encode()) if chain_id else diff_id
    document = {**_v1_description(image, position), "layer_id": chain_id}
    if position > 0:
        document["parent"] = f"sha256:{_v1_id(image, position - 1)}"
    return _hex(sha256(_json(dict(sorted(document.items())))))


def _v1_description(image: Image, position: int) -> dict[str, object]:
    if position < len(image.layers) - 1:
        return {"created": "1970-01-01T00:00:00Z", "container_config": {"Hostname": "", "Cmd": None}}
    config = json.loads(image.config)
    return {name: config[name] for name in ("created", "config", "architecture", "os")}


def _v1_json(image: Image, position: int) -> bytes:
    document = {"id": _v1_id(image, position)}
    if position:
        document["parent"] = _v1_id(image, position - 1)
    return _json({**document, **_v1_description(image, position), "os": "linux"})


def _classic_entries(images: Sequence[Image]) -> list[Entry]:
    content: dict[str, Entry] = {}
    first: dict[str, str] = {}
    described: list[tuple[Image, str, list[str]]] = []
    for image in images:
        paths: list[str] = []
        for position, layer in enumerate(image.layers):
            folder = _v1_id(image, position)
            paths.append(f"{folder}/layer.tar")
            original = first.setdefault(layer.diff_id, folder)
            for entry in (
                Entry(f"{folder}/"),
                Entry(f"{folder}/VERSION", b"1.0"),
                Entry(f"{folder}/json", _v1_json(image, position)),
                Entry(f"{folder}/layer.tar", layer.tar)
                if original == folder
                else Entry(f"{folder}/layer.tar", target=f"../{original}/layer.tar"),
            ):
                content.setdefault(entry.name, entry)
        config = f"{_hex(image.config_digest)}.json"
        content[config] = Entry(config, image.config)
        described.append((image, config, paths))
    # Go walks the folder in the order of names: manifest.json and repositories come last.
    content["manifest.json"] = Entry("manifest.json", _manifest_json(described))
    content["repositories"] = Entry("repositories", _repositories(images))
    return [content[name] for name in sorted(content)]


def _podman_entries(images: Sequence[Image], *, compressed: bool) -> list[Entry]:
    content: dict[str, Entry] = {}
    described: list[tuple[Image, str, list[str]]] = []
    for image in images:
        paths: list[str] = []
        for layer in image.layers:
            data = layer.gzip if compressed else layer.tar
            name = f"{_hex(layer.diff_id)}.tar"
            content.setdefault(name, Entry(name, data))
            paths.append(name)
        config = f"{_hex(image.config_digest)}.json"
        content.setdefault(config, Entry(config, image.config))
        described.append((image, config, paths))
    for image, _, paths in described:
        for position, path in enumerate(paths):
            folder = _v1_id(image, position)
            for entry in (
                Entry(f"{folder}/VERSION", b"1.0"),
                Entry(f"{folder}/layer.tar", target=f"../{path}"),
                Entry(f"{folder}/json", _v1_json(image, position)),
            ):
                content.setdefault(entry.name, entry)
    return [
        *content.values(),
        Entry("manifest.json", _manifest_json(described)),
        Entry("repositories", _repositories(images)),
    ]


def _layout_entries(images: Sequence[Image], *, compressed: bool) -> list[Entry]:
    blobs: dict[str, bytes] = {}
    described: list[tuple[Image, str, list[str]]] = []
    roots: list[dict[str, object]] = []

    def keep(data: bytes) -> str:
        path = f"blobs/sha256/{_hex(sha256(data))}"
        blobs[path] = data
        return path

    for image in images:
        config = keep(image.config)
        contents = [layer.gzip if compressed else layer.tar for layer in image.layers]
        paths = [keep(data) for data in contents]
        described.append((image, config, paths))
        if compressed:
            manifest = image.manifest
        else:
            layers = [_descriptor(OCI_LAYER, data) for data in contents]
            manifest = _json(_manifest(_descriptor(OCI_CONFIG, image.config), layers))
        keep(manifest)
        root = _descriptor(OCI_MANIFEST, manifest)
        if compressed:
            # Another platform and an attestation are named and are not there, as after an ordinary pull.
            elsewhere = _descriptor(OCI_MANIFEST, b"not pulled " + image.config)
            index = _json(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_INDEX,
                    "manifests": [
                        {**elsewhere, "platform": {"architecture": "riscv64", "os": "linux"}},
                        {**root, "platform": {"architecture": image.architecture, "os": "linux"}},
                    ],
                }
            )
            keep(index)
            root = _descriptor(OCI_INDEX, index)
        for name in image.names or ("",):
            annotations = {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name.rpartition(":")[2],
            }
            roots.append({**root, "annotations": annotations} if name else root)
    index = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": roots})
    return [
        Entry("blobs/"),
        Entry("blobs/sha256/"),
        *(Entry(path, blobs[path]) for path in sorted(blobs)),
        Entry("index.json", index),
        Entry("manifest.json", _manifest_json(described)),
        Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        *([] if compressed else [Entry("repositories", _repositories(images))]),
    ]


def truncated(path: Path, length: int) -> Path:
    """Cut the file to ``length`` bytes, in place."""
    os.truncate(path, length)
    return path
