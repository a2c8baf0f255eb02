"""Reading back what was pushed, with skopeo: another client's opinion of every digest."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from gzip import GzipFile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

import zstandard

_BLOCK: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class LayerRead:
    """A layer as pulled: digest and size of the blob, digest of what it decompresses to."""

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class ImageRead:
    """An image as pulled."""

    digest: str
    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[LayerRead, ...]

    @property
    def config_digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.config).hexdigest()

    @property
    def config_diff_ids(self) -> list[str]:
        """The diff IDs that the config promises."""
        promised: list[str] = json.loads(self.config)["rootfs"].get("diff_ids") or []
        return promised


def read_back(reference: str, *, credentials: tuple[str, str] | None = None) -> ImageRead:
    """Pull ``registry/repository:tag`` over plain http and hash all of it.

    AssertionError if skopeo fails, a blob does not have the digest and size of its descriptor, or the layers
    do not decompress to the diff IDs of the config.
    """
    login = ["--src-no-creds"] if credentials is None else ["--src-creds", ":".join(credentials)]
    with TemporaryDirectory(prefix="pusher-skopeo-") as name:
        folder = Path(name)
        _skopeo("copy", "--src-tls-verify=false", *login, f"docker://{reference}", f"dir:{folder}")
        raw = (folder / "manifest.json").read_bytes()
        manifest = json.loads(raw)
        config = (folder / _hex(manifest["config"]["digest"])).read_bytes()
        layers = tuple(
            _read_layer(folder / _hex(layer["digest"]), layer["digest"], layer["size"])
            for layer in manifest["layers"]
        )
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    image = ImageRead(digest, raw, manifest.get("mediaType", ""), config, layers)
    assert image.config_digest == manifest["config"]["digest"]
    assert [layer.diff_id for layer in layers] == image.config_diff_ids
    return image


def _read_layer(path: Path, digest: str, size: int) -> LayerRead:
    with path.open("rb") as file:
        found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    assert (path.stat().st_size, found) == (size, digest)
    return LayerRead(digest, size, _diff_id(path))


def _diff_id(path: Path) -> str:
    """Digest of what a blob decompresses to, all its gzip members or zstd frames."""
    content = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        stream: IO[bytes] | GzipFile | zstandard.ZstdDecompressionReader = file
        if head.startswith(_GZIP):
            stream = GzipFile(fileobj=file)
        elif head == _ZSTD:
            stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        while block := stream.read(_BLOCK):
            content.update(block)
    return "sha256:" + content.hexdigest()


def inspect_raw(reference: str) -> bytes:
    """The manifest's or index's exact bytes, as the registry gives them."""
    return _skopeo("inspect", "--raw", "--no-creds", "--tls-verify=false", f"docker://{reference}")


def _skopeo(*arguments: str) -> bytes:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, f"skopeo {' '.join(arguments)}:\n{done.stderr.decode(errors='replace')}"
    return done.stdout


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
