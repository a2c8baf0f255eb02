"""Files that others may change between the look at them and their sending: somebody else's layout, pushed by
root, must never send a file of root's."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ExitCode
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.base import SourceImage
from pusher.sources.docker_dir import DirSource
from pusher.sources.oci import LayoutSource
from pusher.store.records import JobState
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import Image, write_archive
from tests.support.layouts import Layout

SECRET = b"root:$6$secret:"


@pytest.fixture
def layout(image: Image) -> Layout:
    layout = Layout()
    layout.add(layout.image(image), "app:1")
    return layout


def _link(blob: Path, secret: Path) -> None:
    blob.unlink()
    blob.symlink_to(secret)


def _link_of_the_folder(blob: Path, secret: Path) -> None:
    shutil.move(blob.parent, blob.parent.parent / "moved")
    blob.parent.symlink_to(secret.parent)
    shutil.copy(secret, secret.parent / blob.name)


def _fifo(blob: Path, secret: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


def _other_bytes(blob: Path, secret: Path) -> None:
    """In the same file, its time set back."""
    before = blob.stat()
    blob.write_bytes(secret.read_bytes())
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_file(blob: Path, secret: Path) -> None:
    shutil.copy(secret, blob.with_name("new"))
    blob.with_name("new").replace(blob)


SWAPS = [_link, _link_of_the_folder, _fifo, _other_bytes, _other_file]


def swap_after_the_look(
    monkeypatch: pytest.MonkeyPatch, source: Any, swap: Callable[[], None], *, times: int | None = None
) -> None:
    """Have ``swap`` called each time that the source was read, before anything is sent."""
    original = source.resolve
    done: list[bool] = []

    def resolve(self: object) -> SourceImage:
        image: SourceImage = original(self)
        if times is None or len(done) < times:
            done.append(True)
            swap()
        return image

    monkeypatch.setattr(source, "resolve", resolve)


def assert_nothing_was_committed(home: Home, registry: FakeRegistry, job_id: int, wrong: bytes) -> None:
    assert home.state(job_id) == JobState.FAILED
    assert registry.manifests == {}
    assert all(
        wrong not in blob.path.read_bytes() for blobs in registry.blobs.values() for blob in blobs.values()
    )
    assert registry.sessions == {}, "what was sent of it is dropped"
    home.assert_clean()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("kind", ["oci", "dir"])
def test_a_blob_is_swapped_between_check_and_sending(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    swap: Callable[[Path, Path], None],
) -> None:
    if kind == "oci":
        folder = layout.write_folder(tmp_path / "theirs")
    else:
        folder = layout.write_dir(tmp_path / "theirs", layout.listed[0])
    name = image.layers[0].digest.removeprefix("sha256:")
    blob = folder / "blobs/sha256" / name if kind == "oci" else folder / name
    secret = tmp_path / "private" / "shadow"
    secret.parent.mkdir(mode=0o700)
    secret.write_bytes((SECRET * blob.stat().st_size)[: blob.stat().st_size])
    job = home.enqueue(f"{kind}:{folder}", f"{registry.address}/app:1")
    swapped: list[bool] = []

    def once() -> None:
        if not swapped:
            swapped.append(True)
            swap(blob, secret)

    swap_after_the_look(monkeypatch, LayoutSource if kind == "oci" else DirSource, once)
    assert home.run().exit_code == ExitCode.SOURCE
    assert swapped
    assert_nothing_was_committed(home, registry, job.id, SECRET)
    if swap not in (_other_bytes, _other_file):  # which are the stranger's own
        others = [len(image.config), *(len(layer.gzip) for layer in image.layers[1:])]
        assert registry.body_bytes_received() <= sum(others), "no byte of it left"


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "dir"])
def test_a_damaged_layer_is_sent_once_and_named(
    home: Home, registry: FakeRegistry, image: Image, layout: Layout, tmp_path: Path, kind: str
) -> None:
    layer = image.layers[0]
    damaged = bytearray(layer.gzip)
    damaged[-20] ^= 1
    if kind == "dir":
        path = layout.write_dir(tmp_path / "theirs", layout.listed[0])
        file = path / layer.digest.removeprefix("sha256:")
    elif kind == "oci":
        path = layout.write_folder(tmp_path / "theirs")
        file = path / "blobs/sha256" / layer.digest.removeprefix("sha256:")
    else:
        path = file = layout.write_archive(tmp_path / "theirs.tar")
    file.write_bytes(file.read_bytes().replace(layer.gzip, damaged))
    job = home.enqueue(f"{kind}:{path}", f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.SOURCE
    assert_nothing_was_committed(home, registry, job.id, bytes(damaged))
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "layer-mismatch"
    found = f"sha256:{hashlib.sha256(damaged).hexdigest()}"
    assert error.message == f"a layer in {file} should have digest {layer.digest}, its bytes have {found}"
    assert "retry" not in error.hint
    totals = home.store.jobs.totals([job.id])[job.id]
    assert totals.bytes_sent - totals.bytes_wasted == totals.bytes_done
    assert registry.body_bytes_received() < sum(len(each.gzip) for each in image.layers) + len(image.config)


def test_a_file_that_was_only_touched_is_looked_at_again(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = layout.write_folder(tmp_path / "layout")
    blob = folder / "blobs/sha256" / image.layers[0].digest.removeprefix("sha256:")
    job = home.enqueue(f"oci:{folder}", f"{registry.address}/app:1")
    swap_after_the_look(monkeypatch, LayoutSource, lambda: os.utime(blob, (1, 1)), times=1)
    assert home.run([job.id]).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_an_archive_is_swapped_for_a_link(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "app.tar", image, shape="containerd")
    secret = tmp_path / "shadow"
    secret.write_bytes(SECRET * (archive.stat().st_size // len(SECRET) + 1))
    job = home.enqueue(archive, f"{registry.address}/app:1")

    def swap() -> None:
        archive.unlink()
        archive.symlink_to(secret)

    swap_after_the_look(monkeypatch, ArchiveSource, swap, times=1)
    assert home.run().exit_code == ExitCode.SOURCE
    assert_nothing_was_committed(home, registry, job.id, SECRET)
    assert registry.body_bytes_received() <= len(image.config)
