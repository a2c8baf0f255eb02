"""Storages that are damaged, made up or unreadable: an error that says why, no wrong bytes, no hang."""

from __future__ import annotations

import base64
import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ImageNotFound, StorageDoubtful
from pusher.oci.digest import of_bytes
from pusher.sources import reopen
from pusher.sources.engine.disk.source import StorageSource
from tests.sources.test_engine_disk import exported, opened
from tests.store.privileges import like_any_user
from tests.support.images import Image, Layer, make_image, tar_of
from tests.support.storage import DockerRoot, PodmanRoot, StorageRoot

Break = Callable[[StorageRoot, Image], object]
CONTENT = b"s" * 5000


@pytest.fixture(params=[DockerRoot, PodmanRoot])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    made: StorageRoot = request.param(tmp_path / "storage")
    return made


@pytest.fixture
def image(storage: StorageRoot) -> Image:
    """Two files in folders, and what they could be exchanged for outside of the layer."""
    (storage.root.parent / "secret").write_bytes(CONTENT)
    layer = Layer(tar_of([("usr/bin/tool", CONTENT), ("etc/other", b"other")]))
    return storage.add(Image((layer,), ("app:1",)))


def doubt(storage: StorageRoot, image: Image) -> StorageDoubtful:
    """What reading the image's layer raises."""
    source = opened(storage.source("app:1"))
    with pytest.raises(StorageDoubtful) as caught:
        exported(source, image.diff_ids)
    assert caught.value.hint
    return caught.value


# --- files ------------------------------------------------------------------------------------------------


def _tool(storage: StorageRoot, image: Image) -> Path:
    return storage.files(image, 0) / "usr/bin/tool"


def _replaced(by: Callable[[Path, Path], object]) -> Break:
    def replace(storage: StorageRoot, image: Image) -> None:
        _tool(storage, image).unlink()
        by(_tool(storage, image), storage.root.parent / "secret")

    return replace


def _folder_link(storage: StorageRoot, image: Image) -> None:
    folder = storage.files(image, 0) / "usr/bin"
    folder.rename(storage.root.parent / "bin")
    folder.symlink_to(storage.root.parent / "bin")


FILES: dict[str, Break] = {
    "missing": _replaced(lambda path, secret: None),
    "shorter": lambda storage, image: os.truncate(_tool(storage, image), 4999),
    "longer": lambda storage, image: os.truncate(_tool(storage, image), 5001),
    "a link": _replaced(lambda path, secret: path.symlink_to(secret)),
    "a relative link": _replaced(lambda path, secret: path.symlink_to("../../../../../../../secret")),
    "a folder that is a link": _folder_link,
    "a folder": _replaced(lambda path, secret: path.mkdir()),
    "a FIFO": _replaced(lambda path, secret: os.mkfifo(path)),
    "a file for a folder": lambda storage, image: (
        (storage.files(image, 0) / "usr").rename(storage.root / "x"),
        (storage.files(image, 0) / "usr").write_bytes(b""),
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_not_what_it_was(storage: StorageRoot, image: Image, what: str) -> None:
    FILES[what](storage, image)
    assert "usr/bin/tool" in doubt(storage, image).message


def test_a_fifo_that_somebody_writes_to(storage: StorageRoot, image: Image) -> None:
    FILES["a FIFO"](storage, image)
    descriptor = os.open(_tool(storage, image), os.O_RDWR)
    try:
        os.write(descriptor, b"from the pipe")
        assert "not a regular file" in doubt(storage, image).message
    finally:
        os.close(descriptor)


def test_a_file_that_becomes_shorter_while_it_is_read(storage: StorageRoot, tmp_path: Path) -> None:
    layer = Layer(tar_of([("big", bytes(3 << 20))]))
    image = storage.add(Image((layer,), ("big:1",)))
    source = opened(storage.source("big:1"))
    with source.export(image.diff_ids) as pieces:
        stream = next(pieces).stream
        stream.read(1000)
        os.truncate(storage.files(image, 0) / "big", 100)
        with pytest.raises(StorageDoubtful, match="bytes shorter"):
            stream.read()


def test_other_bytes_of_the_same_length_show_in_the_digest(storage: StorageRoot, image: Image) -> None:
    _tool(storage, image).write_bytes(b"S" * 5000)
    (tar,) = exported(opened(storage.source("app:1")), image.diff_ids).values()
    assert of_bytes(tar) not in image.diff_ids, "whoever spools it compares"


# --- tar-split --------------------------------------------------------------------------------------------


def _entry(**changed: Any) -> Break:
    """The first entry of a file changed."""

    def change(storage: StorageRoot, image: Image) -> None:
        entries = storage.entries(image, 0)
        entry = next(entry for entry in entries if entry["type"] == 1)
        entry.update(changed)
        storage.put_entries(
            image, 0, [{k: v for k, v in entry.items() if v is not None} for entry in entries]
        )

    return change


def _packed(data: bytes) -> Break:
    return lambda storage, image: storage.tar_split(image, 0).write_bytes(data)


def _cut(storage: StorageRoot, image: Image) -> None:
    path = storage.tar_split(image, 0)
    os.truncate(path, path.stat().st_size - 9)


def _flipped(storage: StorageRoot, image: Image) -> None:
    path = storage.tar_split(image, 0)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x55
    path.write_bytes(raw)


def _as_link(storage: StorageRoot, image: Image) -> None:
    path = storage.tar_split(image, 0)
    path.rename(storage.root / "elsewhere")
    path.symlink_to(storage.root / "elsewhere")


def _as_fifo(storage: StorageRoot, image: Image) -> None:
    storage.tar_split(image, 0).unlink()
    os.mkfifo(storage.tar_split(image, 0))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


TAR_SPLITS: dict[str, Break] = {
    "missing": lambda storage, image: storage.tar_split(image, 0).unlink(),
    "a link": _as_link,
    "a FIFO": _as_fifo,
    "cut": _cut,
    "flipped": _flipped,
    "no gzip": _packed(b"\x00" * 100),
    "no JSON": _packed(gzip.compress(b"nonsense\n")),
    "half a line": _packed(gzip.compress(b'{"type":2,"payl')),
    "nested": _packed(gzip.compress(b"[" * 100_000)),
    "a list": _packed(gzip.compress(b"[1,2]\n")),
    "a number": _packed(gzip.compress(b"17\n")),
    "bad base64": _packed(gzip.compress(b'{"type":2,"payload":"*"}\n')),
    "no payload": _packed(gzip.compress(b'{"type":2}\n')),
    "payload null": _packed(gzip.compress(b'{"type":2,"payload":null}\n')),
    "an endless line": _packed(gzip.compress(b'{"type":2,"payload":"' + b"A" * (65 << 20), 1)),
    "unknown type": _entry(type=3),
    "no type": _entry(type=None),
    "a parent": _entry(name="../../../../../secret"),
    "a parent within": _entry(name="usr/../../../../../secret"),
    "a parent at the end": _entry(name="usr/bin/.."),
    "the folder itself": _entry(name="./"),
    "no name": _entry(name=None),
    "a name that is a number": _entry(name=3),
    "a surrogate": _entry(name="\ud800"),
    "a NUL": _entry(name="usr/bin/tool\0"),
    "bad name_raw": _entry(name_raw="*"),
    "a parent in name_raw": _entry(name_raw=_b64(b"../../../../../secret")),
    "deep": _entry(name="d/" * 50_000 + "f"),
    "long": _entry(name="n" * 100_000),
    "huge": _entry(size=1 << 60),
    "a size that is text": _entry(size="5000"),
    "a size that is a fraction": _entry(size=4999.5),
}


@pytest.mark.parametrize("what", TAR_SPLITS)
def test_a_tar_split_that_is_no_good(storage: StorageRoot, image: Image, what: str) -> None:
    TAR_SPLITS[what](storage, image)
    error = doubt(storage, image)
    assert str(storage.tar_split(image, 0)) in error.message
    assert len(error.message) < 1000
    assert error.message.isprintable()


@pytest.mark.parametrize("secret", ["{root}/../secret", "/{root}/../secret"])
def test_absolute_names_are_below_the_layer(storage: StorageRoot, image: Image, secret: str) -> None:
    """As they were when the layer was unpacked: nothing outside is reached."""
    (storage.root.parent / "plain").write_bytes(CONTENT)
    _entry(name=str(storage.root.parent / "plain"))(storage, image)
    assert "No such file" in doubt(storage, image).message
    _entry(name=secret.format(root=storage.root))(storage, image)
    assert "not a path below" in doubt(storage, image).message


@pytest.mark.parametrize("size", [-5, 0])
def test_a_file_of_no_bytes_is_not_looked_for(storage: StorageRoot, image: Image, size: int) -> None:
    _entry(size=size, name="nowhere")(storage, image)
    (tar,) = exported(opened(storage.source("app:1")), image.diff_ids).values()
    assert of_bytes(tar) not in image.diff_ids


# --- what tells of images ---------------------------------------------------------------------------------


def _text(path: Callable[[Any, Image], Path], text: str) -> Break:
    return lambda storage, image: path(storage, image).write_text(text)


def _without(path: Callable[[Any, Image], Path]) -> Break:
    return lambda storage, image: path(storage, image).unlink()


def _diff(storage: DockerRoot, image: Image) -> Path:
    return storage.layer(image, 0) / "diff"


def _cache_id(storage: DockerRoot, image: Image) -> Path:
    return storage.layer(image, 0) / "cache-id"


DOCKER: dict[str, Break] = {
    "no layer of this chain ID": lambda storage, image: storage.tar_split(image, 0).parent.rename(
        storage.root / "gone"
    ),
    "another diff ID": _text(_diff, "sha256:" + "0" * 64),
    "no diff ID": _without(_diff),
    "no cache ID": _without(_cache_id),
    "a cache ID that leads away": _text(_cache_id, "../../../.."),
    "an empty cache ID": _text(_cache_id, ""),
    "a cache ID of nothing": _text(_cache_id, "0" * 64),
}


@pytest.mark.parametrize("what", DOCKER)
def test_a_docker_layer_that_is_not_the_one(tmp_path: Path, what: str) -> None:
    storage = DockerRoot(tmp_path / "storage")
    image = storage.add(make_image(100, names=["app:1"]))
    DOCKER[what](storage, image)
    doubt(storage, image)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"Repositories": 3}', '{"Repositories": {"a": 1}}', "[" * 9999]
)
def test_names_that_cannot_be_understood(tmp_path: Path, text: str) -> None:
    storage = DockerRoot(tmp_path)
    image = storage.add(make_image(100, names=["app:1"]))
    (storage.images / "repositories.json").write_text(text)
    with pytest.raises(StorageDoubtful, match=r"repositories\.json"):
        opened(storage.source("app:1")).resolve()
    by_id = opened(storage.source(image.config_digest))
    assert by_id.resolve().config == image.config, "an ID needs no names"


def test_a_name_of_something_that_is_no_digest(tmp_path: Path) -> None:
    storage = DockerRoot(tmp_path)
    storage.add(make_image(100, names=["app:1"]))
    storage.name("evil:1", "sha256:../../../../etc/passwd")
    with pytest.raises(ImageNotFound):
        opened(storage.source("evil:1")).resolve()


PODMAN: dict[str, Callable[[PodmanRoot], object]] = {
    "no parent": lambda storage: storage.layer_list.pop(0),
    "a circle": lambda storage: storage.layer_list[0].update(parent=storage.layer_list[1]["id"]),
    "no diff ID": lambda storage: storage.layer_list[0].pop("diff-digest"),
    "another diff ID": lambda storage: storage.layer_list[0].update({"diff-digest": "sha256:" + "0" * 64}),
    "fewer layers": lambda storage: storage.layer_list[1].pop("parent"),
    "no layers": lambda storage: storage.image_list[0].update(layer=""),
    "an ID that leads away": lambda storage: (
        storage.layer_list[0].update(id="../../x"),
        storage.layer_list[1].update(parent="../../x"),
    ),
}


@pytest.mark.parametrize("what", PODMAN)
def test_podman_layers_that_are_not_the_images(tmp_path: Path, what: str) -> None:
    storage = PodmanRoot(tmp_path)
    image = storage.add(make_image(100, 50, names=["app:1"]))
    PODMAN[what](storage)
    storage.write()
    doubt(storage, image)


@pytest.mark.parametrize("name", ["overlay-images/images.json", "overlay-layers/layers.json"])
@pytest.mark.parametrize("text", ["", "{}", "[3]", "[" * 9999])
def test_lists_that_cannot_be_understood(tmp_path: Path, name: str, text: str) -> None:
    storage = PodmanRoot(tmp_path)
    image = storage.add(make_image(100, names=["app:1"]))
    pinned = opened(storage.source("app:1")).resolve().pin
    (tmp_path / name).write_text(text)
    source = reopen(pinned)
    assert isinstance(source, StorageSource)
    with pytest.raises(StorageDoubtful, match=name.partition("/")[2]):
        exported(source, image.diff_ids)


@pytest.mark.parametrize("config", [b"{}", b"not JSON", b'{"rootfs": {"diff_ids": ["../x"]}}', b"[" * 99_999])
def test_a_config_of_no_image(storage: StorageRoot, config: bytes) -> None:
    class _Odd(Image):
        pass

    image = _Odd((), ("odd:1",))
    image.__dict__["config"] = config
    storage.add(image)
    with pytest.raises(StorageDoubtful, match=r"not an image whose layers|cannot be"):
        opened(storage.source("odd:1")).resolve()


def test_a_damaged_config(storage: StorageRoot, image: Image) -> None:
    storage.config(image).write_bytes(image.config + b" ")
    with pytest.raises(StorageDoubtful, match="damaged"):
        opened(storage.source("app:1")).resolve()


def test_a_config_that_is_a_fifo(storage: StorageRoot, image: Image) -> None:
    storage.config(image).unlink()
    os.mkfifo(storage.config(image))
    ended = threading.Event()

    def resolve() -> None:
        with pytest.raises(StorageDoubtful, match="not a regular file"):
            opened(storage.source("app:1")).resolve()
        ended.set()

    threading.Thread(target=resolve, daemon=True).start()
    assert ended.wait(60)


# --- folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["nothing", "an empty folder", "a file", "another folder"])
@pytest.mark.parametrize("kind", ["docker-storage", "containers-storage"])
def test_a_root_that_is_none(tmp_path: Path, kind: str, what: str) -> None:
    root = tmp_path / "root"
    if what == "a file":
        root.write_text("")
    elif what != "nothing":
        root.mkdir()
    if what == "another folder":
        (root / "image").write_text("")
        (root / "overlay-images").write_text("")
    said = "contains no images" if root.is_dir() else f"there is no folder {root}"
    with pytest.raises(StorageDoubtful, match=said):
        opened(f"{kind}:[{root}]app:1").resolve()


@pytest.mark.parametrize("part", ["root", "config", "names", "files"])
def test_what_this_user_may_not_read(storage: StorageRoot, image: Image, part: str) -> None:
    path = {
        "root": storage.root,
        "config": storage.config(image).parent,
        "names": storage.root / ("image" if isinstance(storage, DockerRoot) else "overlay-images"),
        "files": storage.files(image, 0),
    }[part]
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with like_any_user(), pytest.raises(StorageDoubtful, match="Permission denied") as caught:
            exported(opened(storage.source("app:1")), image.diff_ids)
    finally:
        path.chmod(mode)
    assert caught.value.hint


def test_an_error_is_one_line(storage: StorageRoot, image: Image) -> None:
    _entry(name="two\nlines\x1b[31m")(storage, image)
    assert "two\\nlines" in doubt(storage, image).message
