"""A split is checked before it is used: whatever goes wrong in cutting is met here and not by an engine."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import ArchiveInvalid, ImageUnsupported
from pusher.sources.split.check import Contents, are_the_same
from pusher.sources.split.cut import Chunk, Cutter
from pusher.sources.split.plan import parts_of, plan_layer
from tests.support.tars import Member, entry, file, folder, layer, link

LIMIT = 20_480
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def contents(tar: bytes, step: int = 999) -> Contents:
    found = Contents()
    for start in range(0, len(tar), step):
        found.feed(tar[start : start + step])
    return found


def members() -> list[Member]:
    long = "n" * 90
    return [
        folder("./", mode=0o711),
        folder("below"),
        file("below/target", 3000),
        *(file(f"below/{long}/{long}-{n}", 3000) for n in range(12)),
        entry("below/soft", kind=tarfile.SYMTYPE, linkname="x" * 90),
        entry("empty"),
        link("hard", "below/target"),
        link("elsewhere", "usr/bin/env"),
    ]


def with_times(tar: bytes) -> bytes:
    """A GNU tar with access and change times in its headers, as `tar -g` and others write them."""
    changed = bytearray(tar)
    with tarfile.open(fileobj=io.BytesIO(tar)) as read:
        places = [member.offset_data - 512 for member in read.getmembers()]
    for place in places:
        changed[place + 345 : place + 369] = b"14201223310\00014201223311\0"
        changed[place + 148 : place + 156] = b" " * 8
        changed[place + 148 : place + 156] = b"%06o\0 " % sum(changed[place : place + 512])
    return bytes(changed)


def parts(tar: bytes) -> list[bytes]:
    plan = plan_layer(io.BytesIO(tar).read, limit=LIMIT, reserve=4096)
    wanted = {part.diff_id for part in plan.parts}
    made = {p.name: p.stream.read() for p in parts_of(plan, io.BytesIO(tar).read, limit=LIMIT, wanted=wanted)}
    return [made[part.diff_id] for part in plan.parts]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_parts_are_the_layer_in_whatever_pieces_they_come(form: int) -> None:
    tar = layer(*members(), form=form)
    cut = parts(tar)
    assert len(cut) > 2
    for step in (1, 511, 512, 100_000):
        assert are_the_same(contents(tar, step), [contents(part, step) for part in cut])


@pytest.mark.parametrize("position", [0, 124, 156, 157, 345, 600, 700])
def test_a_byte_that_changed_is_noticed(position: int) -> None:
    tar = layer(entry("a", b"1" * 600), link("b", "a"), form=tarfile.GNU_FORMAT)
    other = bytearray(tar)
    other[position] ^= 1
    assert not are_the_same(contents(tar), [contents(bytes(other))])


@pytest.mark.parametrize(
    "other",
    [
        [entry("a", b"1")],
        [link("b", "a"), entry("a", b"1")],
        [entry("a", b"1"), link("b", "a"), entry("c")],
        [entry("a", b"1"), link("b", "c")],
        [entry("a", b"1"), link("b", "a"), folder("c")],
        [entry("a", b"1", mode=0o600), link("b", "a")],
    ],
)
def test_what_is_not_the_same(other: list[Member]) -> None:
    first = contents(layer(entry("a", b"1"), link("b", "a")))
    assert are_the_same(first, [first])
    assert not are_the_same(first, [contents(layer(*other))])


def test_folders_may_come_again_but_not_others() -> None:
    whole = contents(layer(folder("d"), file("d/a", 1), file("d/b", 2)))
    first = contents(layer(folder("d"), file("d/a", 1)))
    assert are_the_same(whole, [first, contents(layer(folder("d"), file("d/b", 2)))])
    assert not are_the_same(whole, [first, contents(layer(folder("d", mode=0o700), file("d/b", 2)))])


def test_links_in_another_part_than_their_file_are_no_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cutter, "_home", lambda *_: None)
    with pytest.raises(ImageUnsupported, match="its parts would not add up to it"):
        parts(layer(*members()))


def test_an_entry_that_gets_lost_is_no_split(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = Cutter.chunks

    def fewer(self: Cutter, source: object) -> Iterator[Chunk]:
        for number, chunk in enumerate(chunks(self, source)):  # type: ignore[arg-type]
            if number != 1:
                yield chunk

    monkeypatch.setattr(Cutter, "chunks", fewer)
    with pytest.raises(ImageUnsupported, match="its parts would not add up"):
        parts(layer(entry("empty"), *members()))


def test_a_damaged_layer_is_told_as_damaged() -> None:
    tar = bytearray(layer(*members(), form=tarfile.GNU_FORMAT))
    tar[512 + 148] ^= 1
    with pytest.raises(ArchiveInvalid, match="damaged"):
        parts(bytes(tar))


def test_layers_with_access_times_keep_their_links(tmp_path: Path) -> None:
    """Unpacked by GNU tar, as Python's tarfile does not read such headers."""
    tar = with_times(layer(*members()[:-1], form=tarfile.GNU_FORMAT))
    program = shutil.which("tar")
    assert program
    trees = []
    for name, layers in (("whole", [tar]), ("cut", parts(tar))):
        assert name == "whole" or len(layers) > 2
        root = tmp_path / name
        root.mkdir()
        for number, data in enumerate(layers):
            (tmp_path / f"{number}.tar").write_bytes(data)
            subprocess.run([program, "-xpf", tmp_path / f"{number}.tar", "-C", root], check=True)
        trees.append(
            {
                str(path.relative_to(root)): (path.lstat().st_mode, path.lstat().st_nlink, path.is_file())
                for path in root.rglob("*")
            }
        )
        assert (root / "hard").samefile(root / "below/target")
    assert trees[0] == trees[1]
