"""Images whose blobs are final, in every form in which they lie on disk; every digest is known.

A ``Layout`` collects blobs and documents; its methods give descriptors, which others list. ``listed`` is what
index.json lists. The same calls always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import zstandard

from tests.support.images import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Entry,
    Image,
    make_layer,
    write_tar,
)

Descriptor = dict[str, Any]

DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_CONTENT_STORE: Final = "io.containerd.content.v1.content/blobs/sha256"


class Layout:
    """Blobs and documents by digest."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.listed: list[Descriptor] = []

    # --- what is in it ------------------------------------------------------------------------------------

    def blob(self, data: bytes, media_type: str, *, algorithm: str = "sha256", **fields: Any) -> Descriptor:
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def document(self, data: Mapping[str, Any]) -> Descriptor:
        """A manifest or index with any content (indented: its bytes are those of whoever made it)."""
        return self.blob(json.dumps(data, indent=3).encode(), data.get("mediaType", OCI_MANIFEST))

    def image(self, image: Image, *, zstd: bool = False, **fields: Any) -> Descriptor:
        """The manifest of an image, layers gzip- or zstd-compressed; ``fields`` are added to the manifest."""
        kind = "zstd" if zstd else "gzip"
        layers = [
            self.blob(zstandard.compress(layer.tar) if zstd else layer.gzip, f"{OCI_LAYER}+{kind}")
            for layer in image.layers
        ]
        return self.manifest(self.blob(image.config, OCI_CONFIG), *layers, **fields)

    def manifest(self, config: Descriptor, *layers: Descriptor, **fields: Any) -> Descriptor:
        body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": list(layers)}
        return self.document({**body, **fields})

    def index(self, *children: Descriptor, media_type: str = OCI_INDEX, **fields: Any) -> Descriptor:
        body = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(children), **fields}
        return self.document(body)

    def attestation(self, of: Descriptor) -> Descriptor:
        """What BuildKit attests of a manifest, as it stands in an index."""
        statement = self.blob(f"statement of {of['digest']}".encode(), "application/vnd.in-toto+json")
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}}).encode()
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of["digest"],
        }
        return {
            **self.manifest(self.blob(config, OCI_CONFIG), statement),
            "annotations": annotations,
            "platform": {"architecture": "unknown", "os": "unknown"},
        }

    def artifact(self, data: bytes, subject: Descriptor | None = None) -> Descriptor:
        """An artifact with the empty config, that may refer to another manifest."""
        fields: dict[str, Any] = {"artifactType": "application/x.example"}
        if subject is not None:
            fields["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
        return self.manifest(self.blob(b"{}", EMPTY), self.blob(data, "application/x.example"), **fields)

    def add(self, root: Descriptor, *names: str) -> Descriptor:
        """List a root in index.json, once for each name: ``repository:tag`` or a tag alone."""
        for name in names:
            annotations = {"org.opencontainers.image.ref.name": name.rpartition(":")[2]}
            if ":" in name:
                annotations["io.containerd.image.name"] = name
            self.listed.append({**root, "annotations": annotations})
        if not names:
            self.listed.append(root)
        return root

    def without(self, *descriptors: Descriptor) -> Layout:
        """The same without some blobs or documents, which stay listed."""
        copy = Layout()
        gone = {descriptor["digest"] for descriptor in descriptors}
        copy.blobs = {digest: data for digest, data in self.blobs.items() if digest not in gone}
        copy.listed = list(self.listed)
        return copy

    @property
    def index_json(self) -> bytes:
        return json.dumps({"schemaVersion": 2, "manifests": self.listed}).encode()

    # --- where it lies ------------------------------------------------------------------------------------

    def write_folder(self, path: Path) -> Path:
        """``oci:``"""
        for digest in ("sha256:", *self.blobs):
            (path / "blobs" / digest.partition(":")[0]).mkdir(parents=True, exist_ok=True)
        for digest, data in self.blobs.items():
            (path / "blobs" / digest.replace(":", "/")).write_bytes(data)
        (path / "index.json").write_bytes(self.index_json)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return path

    def entries(self) -> list[Entry]:
        blobs = [Entry(f"blobs/sha256/{_hex(digest)}", data) for digest, data in sorted(self.blobs.items())]
        layout = Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        return [Entry("blobs/"), Entry("blobs/sha256/"), *blobs, Entry("index.json", self.index_json), layout]

    def write_archive(self, path: Path, *more: Entry) -> Path:
        """``oci-archive:``; with a manifest.json among ``more`` a docker-archive."""
        return write_tar(path, [*self.entries(), *more])

    def write_dir(self, path: Path, root: Descriptor) -> Path:
        """``dir:``, as skopeo writes it with --all."""
        path.mkdir()
        (path / "version").write_text("Directory Transport Version: 1.1\n")
        for digest, data in self.blobs.items():
            is_document = b'"schemaVersion"' in data
            name = "manifest.json" if digest == root["digest"] else _hex(digest)
            (path / (f"{name}.manifest.json" if is_document and name == _hex(digest) else name)).write_bytes(
                data
            )
        return path

    def write_store(self, path: Path) -> Path:
        """containerd's content store below its root."""
        (path / _CONTENT_STORE).mkdir(parents=True)
        for digest, data in self.blobs.items():
            (path / _CONTENT_STORE / _hex(digest)).write_bytes(data)
        return path


def manifest_json(*images: Image, names: bool = True) -> Entry:
    """The manifest.json that makes a docker-archive of a layout with some images."""
    described = [
        {
            "Config": f"blobs/sha256/{_hex(image.config_digest)}",
            "RepoTags": list(image.names) if names else None,
            "Layers": [f"blobs/sha256/{_hex(layer.digest)}" for layer in image.layers],
        }
        for image in images
    ]
    return Entry("manifest.json", json.dumps(described).encode())


def on(platform: str, descriptor: Descriptor) -> Descriptor:
    """A descriptor with its platform, as an index lists it."""
    os, architecture, *variant = platform.split("/")
    named = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
    return {**descriptor, "platform": named}


def two_platforms(
    names: tuple[str, ...] = ("registry.example.com/team/app:1.2",),
) -> tuple[Layout, Descriptor]:
    """A layout whose one entry is an index: two images that share a layer, an attestation for each."""
    layout = Layout()
    amd64, arm64 = (platform_image(architecture) for architecture in ("amd64", "arm64"))
    children = [
        on("linux/amd64", layout.image(amd64)),
        on("linux/arm64/v8", layout.image(arm64, zstd=True)),
    ]
    root = layout.index(*children, *(layout.attestation(child) for child in children))
    layout.add(root, *names)
    return layout, root


def platform_image(architecture: str, names: tuple[str, ...] = ()) -> Image:
    """An image of two layers for an architecture; the lower one is the same in all."""
    layers = (make_layer(20_000, 1), make_layer(3_000 + len(architecture), 2))
    return Image(layers, names, architecture=architecture)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
