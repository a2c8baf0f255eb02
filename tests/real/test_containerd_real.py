"""The containerd image store's archives, as the real containerd writes them: Docker uses its exporter."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.sources import find
from pusher.sources.engine.content_api import ContentStore
from pusher.sources.engine.content_store import ContentStoreSource, find_store
from pusher.sources.engine.grpc import GrpcBroken, GrpcClient, GrpcFailed
from tests.support.images import make_image, sha256, write_archive
from tests.support.layouts import two_platforms
from tests.support.processes import Daemon, unmount_below
from tests.support.real import require

Ctr = Callable[..., None]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where containerd keeps everything, its content below ``root``; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="pusher-ctr-") as name:
        yield Path(name)


@pytest.fixture
def ctr(folder: Path) -> Iterator[Ctr]:
    """`ctr` of a containerd of our own."""
    require("containerd", "ctr", root=True)
    address = folder / "ctr.sock"
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{address}"\n[ttrpc]\naddress = "{address}.ttrpc"\n'
    )

    def run(*arguments: str) -> None:
        subprocess.run(["ctr", "--address", str(address), *arguments], check=True, capture_output=True)

    def ready() -> bool:
        asked = ["ctr", "--address", str(address), "version"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    daemon = Daemon("containerd", folder / "log")
    daemon.start(["containerd", "--config", str(folder / "config.toml")], ready)
    try:
        yield run
    finally:
        daemon.stop()
        unmount_below(folder)


def test_an_exported_image_keeps_its_manifest_and_blobs(ctr: Ctr, tmp_path: Path) -> None:
    image = make_image(5000, 300_000, names=("registry.example.com/team/app:1.2",))
    ctr("images", "import", "--no-unpack", str(write_archive(tmp_path / "in.tar", image, shape="containerd")))
    ctr("images", "export", str(tmp_path / "out.tar"), image.names[0])

    source, name = find(str(tmp_path / "out.tar"))
    found = source.resolve()
    assert name == image.names[0]
    assert found.config == image.config
    assert found.root is not None
    assert found.root.raw == image.manifest
    for known, layer in zip(image.layers, found.layers, strict=True):
        assert layer.file is not None
        with layer.file.path.open("rb") as file:
            file.seek(layer.file.start)
            assert sha256(file.read(layer.file.size)) == layer.file.digest == known.digest


def test_all_platforms_lie_in_its_content_store(ctr: Ctr, folder: Path, tmp_path: Path) -> None:
    layout, root = two_platforms()
    saved = layout.write_archive(tmp_path / "in.tar")
    ctr("images", "import", "--no-unpack", "--all-platforms", str(saved))
    store = find_store(root["digest"], [folder / "none", folder / "root"])
    assert store == folder / "root"
    image = ContentStoreSource(store, root["digest"], "app:1").resolve()
    assert image.root is not None
    assert image.root.digest == root["digest"]
    documents = {document.digest: document.raw for document in image.documents}
    blobs = {
        layer.file.digest: layer.file.path.read_bytes() for layer in image.layers if layer.file is not None
    }
    assert {**documents, **blobs, image.config_digest: image.config} == layout.blobs


class Wire:
    """A socket as ``GrpcClient`` wants it."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(address))
        self.read_into = self.socket.recv_into
        self.write = self.socket.sendall


def test_its_content_service_is_read_by_digest(ctr: Ctr, folder: Path, tmp_path: Path) -> None:
    """The service that Docker passes on, as gRPC's own server sends it."""
    image = make_image(5000, 3_000_000, compressible=0.0, names=("registry.example.com/team/app:1.2",))
    ctr("images", "import", "--no-unpack", str(write_archive(tmp_path / "in.tar", image, shape="containerd")))
    wire = Wire(folder / "ctr.sock")
    with wire.socket:
        store = ContentStore(GrpcClient(wire, {"containerd-namespace": "default"}))
        for layer in image.layers:
            assert store.size_of(layer.digest) == len(layer.gzip)
            assert b"".join(store.read(layer.digest)) == layer.gzip
            assert b"".join(store.read(layer.digest, 1234)) == layer.gzip[1234:]
        missing = sha256(b"missing")
        assert store.size_of(missing) is None
        with pytest.raises(GrpcFailed) as caught:
            next(store.read(missing))
        assert caught.value.status == 5
        assert store.size_of(image.config_digest) == len(image.config)
        wire.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises((GrpcBroken, OSError)):
            store.size_of(missing)
