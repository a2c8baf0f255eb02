"""Whole images split: every kind of source around which ``--split-layers`` is put, and what is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pusher.errors import (
    ImageUnsupported,
    InvalidOption,
    LayerMismatch,
    SourceError,
    StorageDoubtful,
)
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.base import Choice, ExportPiece, Source, SourceImage
from pusher.sources.pins import SplitPin
from pusher.sources.split import plan as split_plan
from pusher.sources.split.config import rewrite_config
from pusher.sources.split.planning import largest_part
from pusher.sources.split.source import SplitSource
from tests.support.fake_engine import FakeEngine
from tests.support.images import (
    SHAPES,
    Image,
    Layer,
    Shape,
    make_layer,
    random_bytes,
    sha256,
    tar_of,
    write_archive,
    write_undescribed,
)
from tests.support.layouts import FOREIGN, Layout
from tests.support.pins import stored, stored_as
from tests.support.storage import DockerRoot
from tests.support.tars import entry, file, layer, link
from tests.support.unpack import one_after_the_other

MIB = 1 << 20
NAME = "registry.example.com/team/app:1.2"


def big_layer(seed: int) -> Layer:
    """Six files of 400 kB, two to a part of 1 MiB; all these layers have the same size."""
    return Layer(tar_of((f"data/{seed}/{n}", noise(seed * 10 + n)) for n in range(6)))


def noise(seed: int) -> bytes:
    return random_bytes(400_000, seed, compressible=0)


IMAGE = Image((make_layer(5000), big_layer(1), make_layer(7000, 2), big_layer(3)), (NAME,))
PARTS = [1, 3, 1, 3]


def split(image: str, size: int = MIB, choice: Choice | None = None) -> SplitSource:
    return SplitSource(find(image, choice or Choice())[0], size, reopen)


def tars(source: Source) -> list[bytes]:
    """The layers of a source's image as tars, from where they lie or from one export."""
    image = source.resolve()
    wanted = {known.key for known in image.layers if known.blob is None}
    wanted |= {known.blob.digest for known in image.layers if known.blob and not known.file}
    found: dict[str, bytes] = {}
    with source.export(wanted) as pieces:
        for piece in pieces:
            data = piece.stream.read()
            if piece.name is not None:
                assert len(data) == piece.size
            found[piece.name or sha256(data)] = data
    for part in filter(None, (known.file for known in image.layers)):
        with part.path.open("rb") as opened:
            opened.seek(part.start)
            found[part.digest] = opened.read(part.size)
    blobs = (found[known.export_name] for known in image.layers)
    return [_plain(blob) for blob in blobs]


def _plain(blob: bytes) -> bytes:
    if blob.startswith(b"\x1f\x8b"):
        return zlib.decompress(blob, wbits=31)
    return zstandard.ZstdDecompressor().decompressobj().decompress(blob) if blob[:2] == b"\x28\xb5" else blob


def check(source: SplitSource, image: Image = IMAGE, counts: Collection[int] = PARTS) -> SourceImage:
    """The image is split, also after a restart, and unpacks to the same."""
    found = source.resolve()
    again = reopen(stored(found.pin))
    assert again.resolve() == found
    assert found.config is not None
    assert found.config_digest == sha256(found.config)
    assert found.documents == ()
    made = tars(again)
    assert [sha256(tar) for tar in made] == json.loads(found.config)["rootfs"]["diff_ids"]
    assert len(made) == sum(counts)
    assert max(map(len, made)) <= largest_part(MIB)
    assert one_after_the_other(made) == one_after_the_other([layer.tar for layer in image.layers])
    assert image.config_digest in found.notes[-1]
    assert found.config_digest in found.notes[-1]
    return found


# --- every source -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_archives_of_every_shape(tmp_path: Path, shape: Shape) -> None:
    path = write_archive(tmp_path / "app.tar", IMAGE, shape=shape)
    choice = Choice((Platform("linux", "amd64"),)) if shape == "containerd" else Choice()
    source = split(f"docker-archive:{path}", choice=choice)
    assert source.own_name() == NAME
    found = check(source)
    small = found.layers[0]
    assert small.diff_id == IMAGE.diff_ids[0]
    assert (small.file is not None) == (shape in ("compressed", "containerd")), "its blob is kept"


@pytest.mark.parametrize("write", [write_archive, write_undescribed])
def test_docker_save_with_and_without_names_of_layers(
    docker: FakeEngine, tmp_path: Path, write: Callable[..., Path]
) -> None:
    """Without them a layer's diff ID is known when it was read: two of these have the same size."""
    docker.has(IMAGE, write(tmp_path / "saved.tar", IMAGE))
    found = check(split(NAME))
    saves = [call for call in docker.calls() if call.startswith("save")]
    assert len(saves) == 2, "once to plan, once to push"
    source = reopen(found.pin)
    with source.export([found.layers[-1].key]) as pieces:
        made = [(piece.name, sha256(piece.stream.read())) for piece in pieces if piece.name]
    assert made == [(found.layers[-1].key,) * 2], "the second of two layers of one size"


def test_docker_storage(tmp_path: Path) -> None:
    root = DockerRoot(tmp_path / "docker")
    root.add(IMAGE)
    check(split(root.source(NAME)))


@pytest.mark.parametrize("zstd", [False, True], ids=["gzip", "zstd"])
def test_a_layout(tmp_path: Path, zstd: bool) -> None:
    layout = Layout()
    layout.add(layout.image(IMAGE, zstd=zstd), NAME)
    found = check(split(f"oci:{layout.write_folder(tmp_path / 'layout')}"))
    assert [layer.file is not None for layer in found.layers] == [True, *[False] * 3, True, *[False] * 3]


def test_a_layer_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    image = Image((IMAGE.layers[1], IMAGE.layers[0], IMAGE.layers[1]), (NAME,))
    path = write_archive(tmp_path / "app.tar", image, shape="podman")
    found = check(split(str(path)), image, [3, 1, 3])
    assert len(stored_as(SplitPin, found.pin).plans) == 1


def test_an_image_without_large_layers_is_given_as_it_is(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "app.tar", IMAGE)
    source = split(str(path), 10 * MIB)
    assert source.resolve() == ArchiveSource(path).resolve()


def test_an_index_without_large_layers_is_given_as_it_is(tmp_path: Path) -> None:
    layout, index = _index(Image((make_layer(3000),)), Image((make_layer(4000),), architecture="arm64"))
    folder = layout.write_folder(tmp_path / "layout")
    found = split(f"oci:{folder}").resolve()
    assert found.root is not None
    assert found.root.digest == index["digest"]


def _index(*images: Image, attested: bool = False) -> tuple[Layout, dict[str, Any]]:
    layout = Layout()
    children: list[dict[str, Any]] = []
    for image in images:
        child = layout.image(image)
        children.append({**child, "platform": {"os": "linux", "architecture": image.architecture}})
        if attested:
            children.append(layout.attestation(child))
    return layout, layout.add(layout.index(*children), NAME)


def test_one_platform_of_several(tmp_path: Path) -> None:
    layout, _ = _index(IMAGE, Image(IMAGE.layers, architecture="arm64"))
    folder = layout.write_folder(tmp_path / "layout")
    with pytest.raises(ImageUnsupported, match="2 platforms") as caught:
        split(f"oci:{folder}").resolve()
    assert "--platform" in caught.value.hint
    check(split(f"oci:{folder}", choice=Choice((Platform("linux", "amd64"),))))


def test_attestations_of_the_only_platform_are_left_out(tmp_path: Path) -> None:
    layout, _ = _index(IMAGE, attested=True)
    found = check(split(f"oci:{layout.write_folder(tmp_path / 'layout')}"))
    assert any("attestations are left out" in note for note in found.notes)


# --- another way, when one fails --------------------------------------------------------------------------


class _Doubtful:
    """A source whose bytes cannot be had, and that knows another one."""

    def __init__(self, path: Path, error: SourceError) -> None:
        self._source = ArchiveSource(path)
        self._error = error

    def own_name(self) -> str | None:
        return self._source.own_name()

    def resolve(self) -> SourceImage:
        return self._source.resolve()

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[ExportPiece]]:
        raise self._error
        yield iter(())

    def fall_back(self) -> Source | None:
        return self._source


@pytest.mark.parametrize("error", [StorageDoubtful("not readable"), LayerMismatch("other bytes")])
def test_the_other_way_to_the_image(tmp_path: Path, error: SourceError) -> None:
    path = write_archive(tmp_path / "app.tar", IMAGE)
    doubtful = _Doubtful(path, error)
    found = check(SplitSource(doubtful, MIB, lambda _: doubtful))
    source = SplitSource(doubtful, MIB, reopen, pin=stored_as(SplitPin, found.pin))
    with source.export([found.layers[1].key]) as pieces, pytest.raises(type(error)):
        next(pieces)
    other = source.fall_back()
    assert other is not None
    assert len(tars(other)) == sum(PARTS)
    assert other.fall_back() is None


def test_without_another_way_the_error_comes_out(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "app.tar", IMAGE)
    data = bytearray(path.read_bytes())
    data[data.index(noise(12)) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(LayerMismatch, match=IMAGE.diff_ids[1]):
        split(str(path)).resolve()


def test_a_config_that_is_another_is_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArchiveSource(write_archive(tmp_path / "app.tar", IMAGE))
    image = replace(source.resolve(), config=IMAGE.config.replace(b"amd64", b"arm64"))
    monkeypatch.setattr(source, "resolve", lambda: image)
    with pytest.raises(LayerMismatch, match="config"):
        SplitSource(source, MIB, lambda _: source).resolve()


# --- what is exported -------------------------------------------------------------------------------------


def test_only_what_is_wanted_is_exported(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "app.tar", IMAGE, shape="docker25")
    found = split(str(path)).resolve()
    source = reopen(found.pin)
    wanted = {found.layers[n].key for n in (0, 2, 7)}
    with source.export(wanted) as pieces:
        assert {piece.name for piece in pieces} == wanted
    with source.export([]) as pieces:
        assert list(pieces) == []


def test_somebody_may_stop_it(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.image(IMAGE), NAME)
    found = split(f"oci:{layout.write_folder(tmp_path / 'layout')}").resolve()

    def stop() -> None:
        raise InterruptedError

    export = reopen(found.pin).export([found.layers[1].key], check_stop=stop)
    with export as pieces, pytest.raises(InterruptedError):
        next(pieces).stream.read()


def test_late_entries_that_were_not_stored_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion = (".wh.gone", b"")
    files = [(f"{n}", noise(n)) for n in range(6)]
    image = Image((Layer(tar_of([("gone", b"x")])), Layer(tar_of([*files, deletion]))), (NAME,))
    path = write_archive(tmp_path / "app.tar", image)
    first = check(split(str(path)), image, [1, 3])
    monkeypatch.setattr(split_plan, "_MAX_LATE", 0)
    again = check(split(str(path)), image, [1, 3])
    assert again.layers == first.layers
    assert len(str(again.pin)) < len(str(first.pin))


def test_a_larger_reserve_where_the_usual_one_is_too_small(tmp_path: Path) -> None:
    files = [file("t", 100), *(entry(f"{n}", noise(n)) for n in range(4))]
    tar = layer(*files, *(link(f"links/{n}", "t") for n in range(600)))
    image = Image((Layer(tar),), (NAME,))
    found = check(split(str(write_archive(tmp_path / "app.tar", image))), image, [4])
    (plan,) = stored_as(SplitPin, found.pin).plans
    assert plan.reserve == largest_part(MIB) // 2

    more = layer(*files, *(link(f"links/{n}", "t") for n in range(3000)))
    with pytest.raises(ImageUnsupported, match="hard links"):
        split(str(write_archive(tmp_path / "more.tar", Image((Layer(more),), (NAME,))))).resolve()


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -5, MIB - 1])
def test_sizes_that_make_no_sense(tmp_path: Path, size: int) -> None:
    with pytest.raises(InvalidOption, match=f"parts of {size} bytes"):
        SplitSource(ArchiveSource(tmp_path), size, reopen)


def test_a_file_that_no_layer_can_hold(tmp_path: Path) -> None:
    image = Image((make_layer(2 * MIB, 4),), (NAME,))
    with pytest.raises(ImageUnsupported, match=r"data-4\.bin in layer sha256:\w+ has 2\.0 MiB, too much"):
        split(str(write_archive(tmp_path / "app.tar", image))).resolve()


def test_more_layers_than_engines_take(tmp_path: Path) -> None:
    small = tuple(make_layer(10, n) for n in range(125))
    image = Image((*small, IMAGE.layers[1]), (NAME,))
    with pytest.raises(ImageUnsupported, match="128 layers"):
        split(str(write_archive(tmp_path / "app.tar", image))).resolve()


def test_an_artifact(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.artifact(noise(1) * 4), "1")
    with pytest.raises(ImageUnsupported, match="only the layers of an image"):
        split(f"oci:{layout.write_folder(tmp_path / 'layout')}").resolve()


def test_foreign_layers(tmp_path: Path) -> None:
    layout = Layout()
    big, small = IMAGE.layers[1], IMAGE.layers[0]
    image = Image((small, big), (NAME,))
    foreign = layout.blob(small.gzip, FOREIGN, urls=["https://example.com/layer"])
    layers = [foreign, layout.blob(big.gzip, "application/vnd.oci.image.layer.v1.tar+gzip")]
    config = layout.blob(image.config, "application/vnd.oci.image.config.v1+json")
    layout.add(layout.manifest(config, *layers), NAME)
    folder = layout.write_folder(tmp_path / "layout")
    with pytest.raises(ImageUnsupported, match="foreign") as caught:
        split(f"oci:{folder}").resolve()
    assert "--allow-nondistributable" in caught.value.hint
    check(split(f"oci:{folder}", choice=Choice(foreign=True)), image, [1, 3])


# --- the config -------------------------------------------------------------------------------------------


def _config(**fields: Any) -> bytes:
    ids = [sha256(b"%d" % n) for n in range(3)]
    return json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}, **fields}).encode()


def test_the_history_gets_an_entry_for_every_further_part() -> None:
    history = [
        {"created_by": "one", "created": "2020-01-01T00:00:00Z"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "two", "created": "2021-01-01T00:00:00Z", "comment": "c"},
        {"created_by": "three"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    config = _config(config={"Env": ["A=<&>ü\ud83d\ude00"], "x": 1.5, "n": 10**20}, history=history)
    new = json.loads(rewrite_config(config, [["a"], ["b", "c", "d"], ["e"]]))
    old = json.loads(config)
    assert new["rootfs"] == {"type": "layers", "diff_ids": ["a", "b", "c", "d", "e"]}
    text = "pusher --split-layers: part {} of 3 of this layer"
    assert new["history"] == [
        *history[:3],
        {"created": "2021-01-01T00:00:00Z", "created_by": text.format(2)},
        {"created": "2021-01-01T00:00:00Z", "created_by": text.format(3)},
        *history[3:],
    ]
    assert {**new, "history": 0, "rootfs": 0} == {**old, "history": 0, "rootfs": 0}
    assert list(new) == list(old), "in their order"


@pytest.mark.parametrize("history", [None, [], [{"created_by": "x"}], "text", [1, 2, 3]])
def test_a_history_that_does_not_fit_is_left_alone(history: object) -> None:
    new = json.loads(rewrite_config(_config(history=history), [["a"], ["b", "c"], ["e"]]))
    assert new["history"] == history
