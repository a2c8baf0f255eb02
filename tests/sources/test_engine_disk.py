"""Layers put together from the storages of Docker and Podman on disk."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from pusher.errors import ImageAmbiguous, ImageChanged, ImageNotFound, ReferenceMalformed, StorageDoubtful
from pusher.oci.digest import of_bytes
from pusher.sources import find, reopen
from pusher.sources.engine.disk.data_roots import podman_root
from pusher.sources.engine.disk.docker import DockerStorage
from pusher.sources.engine.disk.source import StorageSource
from tests.support.images import Image, Layer, make_image, make_layer, tar_of
from tests.support.real import require
from tests.support.storage import DockerRoot, PodmanRoot, StorageRoot

MAKERS: dict[str, Callable[[Path], StorageRoot]] = {
    "docker overlay2": DockerRoot,
    "docker vfs": lambda root: DockerRoot(root, "vfs"),
    "docker fuse-overlayfs": lambda root: DockerRoot(root, "fuse-overlayfs"),
    "podman overlay": PodmanRoot,
    "podman vfs": lambda root: PodmanRoot(root, "vfs"),
}


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    return MAKERS[request.param](tmp_path / "storage")


def odd_layer() -> Layer:
    """A tar of everything that tars hold."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(data)
            member.pax_headers = {"SCHILY.xattr.user.note": "x"} if data else {}
            tar.addfile(member, io.BytesIO(data))

        add("usr", kind=tarfile.DIRTYPE)
        add("usr/bin", kind=tarfile.DIRTYPE)
        add("usr/bin/tool", b"#!" + b"t" * 700)
        add("usr/bin/again", kind=tarfile.LNKTYPE, link="usr/bin/tool")
        add("bin", kind=tarfile.SYMTYPE, link="usr/bin")
        add("away", kind=tarfile.SYMTYPE, link="/etc/passwd")
        add("empty")
        add("./dot//ted", b"dotted")
        add("/absolute", b"it was unpacked below the root")
        add("grüße/日本", "ä".encode() * 300)
        add(os.fsdecode(b"latin-\xe9"), b"not UTF-8")
        add("x" * 200 + "/" + "y" * 180, b"a long name")
        add("sparse", bytes(50_000) + b"end" + bytes(50_000))
        add("pipe", kind=tarfile.FIFOTYPE)
        add(".wh.gone", b"")
        add("usr/.wh..wh..opq", b"")
        for depth in range(1, 150):
            add("deep/" + "d/" * depth + "file", b"%d" % depth)
    return Layer(buffer.getvalue())


def exported(source: StorageSource, wanted: Collection[str]) -> dict[str, bytes]:
    with source.export(wanted) as pieces:
        return {str(piece.name): piece.stream.read() for piece in pieces}


def whole(image: Image) -> dict[str, bytes]:
    return {layer.diff_id: layer.tar for layer in image.layers}


def opened(image: str, docker_root: Path | None = None) -> StorageSource:
    source = find(image, docker_root=docker_root)[0]
    assert isinstance(source, StorageSource)
    return source


# --- what is read -----------------------------------------------------------------------------------------


def test_layers_come_back_byte_for_byte(storage: StorageRoot) -> None:
    image = storage.add(make_image(300_000, 0, 17, names=["app:1"]))
    source = opened(storage.source("app:1"))
    found = source.resolve()
    assert (found.config, found.config_digest) == (image.config, image.config_digest)
    assert tuple(layer.diff_id for layer in found.layers) == image.diff_ids
    assert exported(source, image.diff_ids) == whole(image)


def test_everything_that_a_tar_can_hold(storage: StorageRoot) -> None:
    image = storage.add(Image((odd_layer(), make_layer(100)), ("app:1",)))
    source = opened(storage.source("app:1"))
    got = exported(source, image.diff_ids)
    assert {diff_id: of_bytes(tar) for diff_id, tar in got.items()} == {name: name for name in image.diff_ids}


def test_whiteouts_are_devices_on_disk(tmp_path: Path) -> None:
    require("mknod", root=True)
    storage = DockerRoot(tmp_path)
    image = storage.add(Image((odd_layer(),), ("app:1",)))
    assert stat.S_ISCHR((storage.files(image, 0) / "gone").stat().st_mode)


def test_only_the_wanted_layers_are_read(storage: StorageRoot) -> None:
    image = storage.add(make_image(5000, 300, names=["app:1"]))
    storage.tar_split(image, 0).unlink()
    source = opened(storage.source("app:1"))
    assert exported(source, [image.diff_ids[1]]) == {image.diff_ids[1]: image.layers[1].tar}


def test_layers_that_occur_twice_come_once(storage: StorageRoot) -> None:
    layer = make_layer(500)
    image = storage.add(Image((layer, make_layer(10, 1), layer), ("app:1",)))
    source = opened(storage.source("app:1"))
    with source.export(image.diff_ids) as pieces:
        assert [piece.name for piece in pieces] == list(image.diff_ids[:2])


@pytest.mark.parametrize("maker", ["docker overlay2", "podman overlay"])
def test_an_image_of_127_layers(tmp_path: Path, maker: str) -> None:
    storage = MAKERS[maker](tmp_path)
    image = storage.add(make_image(*range(1, 128), names=["app:1"]))
    assert exported(opened(storage.source("app:1")), image.diff_ids) == whole(image)


def test_an_image_without_layers(storage: StorageRoot) -> None:
    image = storage.add(Image((), ("app:1",)))
    source = opened(storage.source("app:1"))
    assert source.resolve().config == image.config
    assert exported(source, []) == {}


def test_reading_in_small_pieces_and_leaving_early(storage: StorageRoot) -> None:
    image = storage.add(make_image(200_000, names=["app:1"]))
    before = _open_files()
    with opened(storage.source("app:1")).export(image.diff_ids) as pieces:
        stream = next(pieces).stream
        assert b"".join(iter(lambda: stream.read(777), b"")) == image.layers[0].tar
    with opened(storage.source("app:1")).export(image.diff_ids) as pieces:
        assert len(next(pieces).stream.read(150_000)) == 150_000
    del pieces
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- which image ------------------------------------------------------------------------------------------


def test_the_same_image_is_found_by_its_id(storage: StorageRoot) -> None:
    image = storage.add(make_image(10, names=["app:1"]))
    digits = image.config_digest.removeprefix("sha256:")
    for name in (image.config_digest, digits, digits[:12]):
        source = opened(storage.source(name))
        assert source.resolve().config_digest == image.config_digest
        assert source.own_name() is None


@pytest.mark.parametrize("name", ["app", "docker.io/library/app:latest", "library/app"])
def test_spellings_of_a_docker_name(tmp_path: Path, name: str) -> None:
    storage = DockerRoot(tmp_path)
    image = storage.add(make_image(10, names=["app:latest"]))
    assert opened(storage.source(name)).resolve().config_digest == image.config_digest


def test_the_exact_name_goes_before_one_that_is_short_for_the_same(storage: StorageRoot) -> None:
    """To Docker ``app`` and ``localhost/app`` are two images."""
    storage.add(make_image(10, names=["localhost/app:1"], seed=1))
    image = storage.add(make_image(10, names=["app:1"], seed=2))
    assert opened(storage.source("app:1")).resolve().config_digest == image.config_digest


def test_a_short_name_of_several_images(storage: StorageRoot) -> None:
    for seed, name in enumerate(("localhost/app:1", "docker.io/library/app:1")):
        storage.add(make_image(10, names=[name], seed=seed))
    with pytest.raises(ImageAmbiguous, match="app:1 for short") as caught:
        opened(storage.source("app:1")).resolve()
    assert "localhost/app:1" in caught.value.hint


def test_an_unknown_name_gives_the_nearest(storage: StorageRoot) -> None:
    storage.add(make_image(10, names=["team/app:1"]))
    with pytest.raises(ImageNotFound) as caught:
        opened(storage.source("team/apq:1")).resolve()
    assert "team/app:1" in caught.value.hint


def test_a_pinned_image_stays_the_same_when_its_tag_moves(storage: StorageRoot) -> None:
    image = storage.add(make_image(10, names=["app:1"], seed=1))
    pinned = opened(storage.source("app:1")).resolve().pin
    if isinstance(storage, PodmanRoot):
        storage.image_list[0]["names"] = []
    storage.add(make_image(10, names=["app:1"], seed=2))
    again = reopen(pinned)
    assert again.resolve().config_digest == image.config_digest
    assert isinstance(again, StorageSource)
    assert exported(again, image.diff_ids) == whole(image)


def test_an_image_deleted_since_is_a_change(storage: StorageRoot) -> None:
    image = storage.add(make_image(10, names=["app:1"]))
    pinned = opened(storage.source("app:1")).resolve().pin
    storage.config(image).unlink()
    with pytest.raises(ImageChanged, match="app:1 was deleted"):
        reopen(pinned).resolve()


# --- which storage ----------------------------------------------------------------------------------------


def test_what_an_earlier_driver_left_is_not_taken_by_accident(tmp_path: Path) -> None:
    old, new = DockerRoot(tmp_path, "vfs"), DockerRoot(tmp_path, "overlay2")
    old.add(make_image(10, names=["app:1"], seed=1))
    image = new.add(make_image(10, names=["app:1"], seed=2))
    with pytest.raises(StorageDoubtful, match="several storage drivers: overlay2, vfs") as caught:
        opened(new.source("app:1")).resolve()
    assert f"[overlay2@{tmp_path}]" in caught.value.hint
    chosen = opened(f"docker-storage:[overlay2@{tmp_path}]app:1").resolve()
    assert chosen.config_digest == image.config_digest
    assert reopen(chosen.pin).resolve() == chosen
    assert chosen.pin.to_json()["driver"] == "overlay2"


def test_a_driver_that_left_no_images_does_not_count(tmp_path: Path) -> None:
    DockerRoot(tmp_path, "vfs")
    storage = DockerRoot(tmp_path)
    image = storage.add(make_image(10, names=["app:1"]))
    assert opened(storage.source("app:1")).resolve().config_digest == image.config_digest


@pytest.mark.parametrize("driver", ["btrfs", "zfs", "devicemapper", "overlayfs"])
def test_other_drivers_are_left_to_the_engine(tmp_path: Path, driver: str) -> None:
    DockerRoot(tmp_path, driver).add(make_image(10, names=["app:1"]))
    for wanted in (None, driver):
        with pytest.raises(StorageDoubtful) as caught:
            DockerStorage(tmp_path, wanted)
        assert "docker-daemon:NAME" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[/mnt/docker]", "[overlay@/a+/b]"])
def test_no_name(text: str) -> None:
    with pytest.raises(ReferenceMalformed, match="names no image"):
        StorageSource("docker-storage", text)


def test_where_docker_keeps_its_images() -> None:
    mounted = Path("/mnt/docker")
    assert opened("docker-storage:app").root == Path("/var/lib/docker")
    assert opened("docker-storage:app", mounted).root == mounted
    assert opened("docker-storage:[/other]app", mounted).root == Path("/other")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "storage.conf"
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return path


def test_where_podman_keeps_its_images(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('[storage]\ndriver = "vfs"\ngraphroot = "$HOME/graph"\n')
    source = opened("containers-storage:app")
    assert (source.root, source.driver) == (tmp_path / "graph", "vfs")
    source = opened("containers-storage:[overlay@/graph+/run]app:1")
    assert (source.root, source.driver, source.name) == (Path("/graph"), "overlay", "app:1")
    config.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert podman_root() == (Path("/var/lib/containers/storage"), None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert podman_root() == (tmp_path / ".local/share/containers/storage", None)


def test_a_configuration_that_makes_no_sense(config: Path) -> None:
    config.write_text("[storage")
    with pytest.raises(StorageDoubtful, match=r"storage\.conf"):
        opened("containers-storage:app")
    config.write_text("storage = 3")
    assert opened("containers-storage:app").root.parts[-2:] == ("containers", "storage")


def test_another_users_configuration(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINERS_STORAGE_CONF")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = tmp_path / ".config/containers/storage.conf"
    own.parent.mkdir(parents=True)
    own.write_text('[storage]\ngraphroot = "/data/$UID"\n')
    assert podman_root() == (Path("/data/1000"), None)


def test_tars_of_no_files(storage: StorageRoot) -> None:
    image = storage.add(Image((Layer(tar_of([])),), ("app:1",)))
    assert exported(opened(storage.source("app:1")), image.diff_ids) == whole(image)
