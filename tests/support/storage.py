"""Storages of Docker and Podman as they lie on disk, made without any engine; every digest is known."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.images import Image, sha256

_CHECKSUM: Final = base64.b64encode(bytes(8)).decode()
"""In place of a file's CRC-64: pusher compares digests of layers instead."""


class StorageRoot(ABC):
    """The storage of an engine below a folder. ``add`` images, then break what you like."""

    prefix: str

    def __init__(self, root: Path, driver: str) -> None:
        self.root = root
        self.driver = driver

    def source(self, name: str) -> str:
        """An image as it is typed."""
        return f"{self.prefix}:[{self.root}]{name}"

    @abstractmethod
    def add(self, image: Image) -> Image:
        """Store an image with its names; layers that are there already are shared."""

    @abstractmethod
    def tar_split(self, image: Image, position: int) -> Path:
        """The tar-split of one of the image's layers."""

    @abstractmethod
    def files(self, image: Image, position: int) -> Path:
        """The folder with the files of one of its layers."""

    @abstractmethod
    def config(self, image: Image) -> Path:
        """The file with its config."""

    def entries(self, image: Image, position: int) -> list[dict[str, Any]]:
        """The entries of a layer's tar-split."""
        lines = gzip.decompress(self.tar_split(image, position).read_bytes()).splitlines()
        return [json.loads(line) for line in lines]

    def put_entries(self, image: Image, position: int, entries: Sequence[object]) -> None:
        """Write them again."""
        self.tar_split(image, position).write_bytes(pack_entries(entries))

    def _keep(self, image: Image, position: int) -> None:
        """Tar-split and files of one layer."""
        path = self.tar_split(image, position)
        path.parent.mkdir(parents=True, exist_ok=True)
        tars = [layer.tar for layer in image.layers[: position + 1]]
        path.write_bytes(pack_entries(list(tar_split_entries(tars[-1]))))
        for tar in tars if self.driver == "vfs" else tars[-1:]:
            unpack(tar, self.files(image, position))


class DockerRoot(StorageRoot):
    """A data root with ``image/<driver>`` and the driver's folders."""

    prefix = "docker-storage"

    def __init__(self, root: Path, driver: str = "overlay2") -> None:
        super().__init__(root, driver)
        self.images = root / "image" / driver
        self.content = self.images / "imagedb/content/sha256"
        self.content.mkdir(parents=True)
        self._names: dict[str, dict[str, str]] = {}
        self.name()

    def add(self, image: Image) -> Image:
        self.config(image).write_bytes(image.config)
        for position, layer in enumerate(image.layers):
            folder = self.layer(image, position)
            if folder.exists():
                continue
            folder.mkdir(parents=True)
            (folder / "diff").write_text(layer.diff_id)
            (folder / "cache-id").write_text(_random_id(folder.name))
            (folder / "size").write_text(str(len(layer.tar)))
            if position:
                (folder / "parent").write_text(f"sha256:{self.layer(image, position - 1).name}")
            self._keep(image, position)
        for name in image.names:
            self.name(name, image.config_digest)
        return image

    def name(self, name: str = "", image_id: str = "") -> None:
        """Give an image a name, as `docker tag` does."""
        if name:
            self._names.setdefault(name.rpartition(":")[0], {})[name] = image_id
        (self.images / "repositories.json").write_text(json.dumps({"Repositories": self._names}))

    def record(self, diff_id: str, digest: str) -> Path:
        """Note that Docker pushed or pulled a layer as this blob; the file that says so."""
        path = self.images / "distribution/v2metadata-by-diffid/sha256" / _hex(diff_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps([{"Digest": digest, "SourceRepository": "docker.io/library/x", "HMAC": ""}])
        )
        return path

    def layer(self, image: Image, position: int) -> Path:
        """The folder of a layer in layerdb."""
        chain, *above = image.diff_ids[: position + 1]
        for diff_id in above:
            chain = sha256(f"{chain} {diff_id}".encode())
        return self.images / "layerdb/sha256" / _hex(chain)

    def tar_split(self, image: Image, position: int) -> Path:
        return self.layer(image, position) / "tar-split.json.gz"

    def files(self, image: Image, position: int) -> Path:
        cache_id = (self.layer(image, position) / "cache-id").read_text()
        below = f"vfs/dir/{cache_id}" if self.driver == "vfs" else f"{self.driver}/{cache_id}/diff"
        return self.root / below

    def config(self, image: Image) -> Path:
        return self.content / _hex(image.config_digest)


class PodmanRoot(StorageRoot):
    """A graph root with ``<driver>-images``, ``<driver>-layers`` and the driver's folders."""

    prefix = "containers-storage"

    def __init__(self, root: Path, driver: str = "overlay") -> None:
        super().__init__(root, driver)
        self.images, self.layers = root / f"{driver}-images", root / f"{driver}-layers"
        self.images.mkdir(parents=True)
        self.layers.mkdir()
        self.image_list: list[dict[str, Any]] = []
        self.layer_list: list[dict[str, Any]] = []
        self.write()

    def add(self, image: Image) -> Image:
        self.config(image).parent.mkdir()
        self.config(image).write_bytes(image.config)
        for position, layer in enumerate(image.layers):
            layer_id = self._layer_id(image, position)
            if any(known["id"] == layer_id for known in self.layer_list):
                continue
            described = {"id": layer_id, "diff-digest": layer.diff_id, "diff-size": len(layer.tar)}
            if position:
                described["parent"] = self._layer_id(image, position - 1)
            self.layer_list.append(described)
            self._keep(image, position)
        top = self._layer_id(image, len(image.layers) - 1) if image.layers else ""
        names = list(image.names)
        self.image_list.append({"id": _hex(image.config_digest), "names": names, "layer": top})
        self.write()
        return image

    def add_manifest(self, image: Image, manifest: bytes) -> None:
        """Keep what the image was pulled or built with."""
        key = f"manifest-{sha256(manifest)}"
        path = self.config(image).with_name("=" + base64.b64encode(key.encode()).decode())
        path.write_bytes(manifest)
        described = next(one for one in self.image_list if one["id"] == _hex(image.config_digest))
        described.setdefault("big-data-names", []).append(key)
        self.write()

    def add_list(self, name: str, index: bytes) -> Path:
        """Store a manifest list, as `podman manifest create` and `add` do; the file that it is in."""
        image_id = _random_id(name)
        folder = self.images / image_id
        folder.mkdir()
        (folder / "manifest").write_bytes(index)
        (folder / "instances.json").write_text(json.dumps({"": image_id}))
        self.image_list.append(
            {"id": image_id, "names": [name], "big-data-names": ["manifest", "instances.json"]}
        )
        self.write()
        return folder / "manifest"

    def write(self) -> None:
        """Write images.json and layers.json from the lists."""
        (self.images / "images.json").write_text(json.dumps(self.image_list))
        (self.layers / "layers.json").write_text(json.dumps(self.layer_list))

    def tar_split(self, image: Image, position: int) -> Path:
        return self.layers / f"{self._layer_id(image, position)}.tar-split.gz"

    def files(self, image: Image, position: int) -> Path:
        below = "vfs/dir/{}" if self.driver == "vfs" else "overlay/{}/diff"
        return self.root / below.format(self._layer_id(image, position))

    def config(self, image: Image) -> Path:
        key = "=" + base64.b64encode(image.config_digest.encode()).decode()
        return self.images / _hex(image.config_digest) / key

    @staticmethod
    def _layer_id(image: Image, position: int) -> str:
        return _hex(sha256("/".join(image.diff_ids[: position + 1]).encode()))


def tar_split_entries(tar: bytes) -> Iterator[dict[str, object]]:
    """A tar as tar-split keeps it: what is not in files as it is, an entry for each header."""
    done = position = 0
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            payload = base64.b64encode(tar[done : member.offset_data]).decode()
            yield {"type": 2, "payload": payload, "position": position}
            size = member.size if member.isreg() else 0
            yield {"type": 1, **_named(member.name), **_sized(size), "position": position + 1}
            done, position = member.offset_data + size, position + 2
    yield {"type": 2, "payload": base64.b64encode(tar[done:]).decode(), "position": position}


def pack_entries(entries: Sequence[object]) -> bytes:
    """Entries as the file holds them."""
    return gzip.compress("".join(json.dumps(entry) + "\n" for entry in entries).encode(), mtime=0)


def unpack(tar: bytes, folder: Path) -> None:
    """The files as an engine lays them out: whiteouts are devices, empty blocks are holes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            path = folder / member.name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name.startswith(".wh."):
                with contextlib.suppress(PermissionError):  # nobody reads it
                    os.mknod(path.with_name(path.name[4:]), stat.S_IFCHR, os.makedev(0, 0))
            elif member.isdir():
                path.mkdir(exist_ok=True)
            elif member.issym():
                path.symlink_to(member.linkname)
            elif member.islnk():
                path.hardlink_to(folder / member.linkname)
            elif member.isfifo():
                os.mkfifo(path)
            elif file := archive.extractfile(member):
                _write_sparse(path, file.read())


def _write_sparse(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        for start in range(0, len(data), 4096):
            if any(block := data[start : start + 4096]):
                file.seek(start)
                file.write(block)
        file.truncate(len(data))


def _named(name: str) -> dict[str, str]:
    try:
        return {"name": name.encode().decode()}
    except UnicodeEncodeError:
        return {"name_raw": base64.b64encode(os.fsencode(name)).decode()}


def _sized(size: int) -> dict[str, object]:
    return {"size": size, "payload": _CHECKSUM} if size else {}


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _random_id(seed: str) -> str:
    return hashlib.sha256(f"cache {seed}".encode()).hexdigest()
