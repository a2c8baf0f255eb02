"""Cutting a layer: its parts unpack to the same files as the layer, however they are unpacked."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from pusher.errors import ArchiveInvalid, ArchiveTruncated, ImageUnsupported, LayerMismatch
from pusher.sources.split import cut as cut_module
from pusher.sources.split.layer_plan import LayerPlan
from pusher.sources.split.plan import (
    NoRoom,
    parts_of,
    plan_layer,
)
from tests.support.images import random_bytes, sha256
from tests.support.tars import Member, entry, file, folder, layer, link
from tests.support.unpack import each_alone, one_after_the_other

LIMIT = 20_480


def planned(tar: bytes, limit: int = LIMIT, reserve: int = 4096, **options: Any) -> LayerPlan:
    return plan_layer(io.BytesIO(tar).read, limit=limit, reserve=reserve, **options)


def parts(tar: bytes, limit: int = LIMIT, reserve: int = 4096, **options: Any) -> list[bytes]:
    """The parts of a layer, each of which is what was planned."""
    plan = planned(tar, limit, reserve, **options)
    again = LayerPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert (plan.diff_id, plan.size) == (sha256(tar), len(tar))
    made = {
        piece.name: piece.stream.read()
        for piece in parts_of(plan, io.BytesIO(tar).read, limit=limit, wanted={p.diff_id for p in plan.parts})
    }
    result = [made[part.diff_id] for part in plan.parts]
    unique = _are_unique(tar)
    for part, data in zip(plan.parts, result, strict=True):
        assert not unique or _are_unique(data), "Docker takes no layer that has a path twice"
        assert (sha256(data), len(data)) == (part.diff_id, part.size)
        assert len(data) <= limit
        assert data.endswith(bytes(1024))
    return result


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as read:
        return read.getnames()


def _are_unique(tar: bytes) -> bool:
    paths = [name.strip("./") for name in names(tar)]
    return len(set(paths)) == len(paths)


BASE = layer(
    folder("./", mode=0o711),
    folder("etc", mode=0o750, mtime=7),
    file("etc/old", 100),
    file("etc/older", 100),
    folder("opt/cache", mtime=8),
    file("opt/cache/a", 10),
    file("opt/cache/b", 10),
    folder("var", uid=4),
    file("var/kept", 10),
    entry("etc/changed", kind=tarfile.SYMTYPE, linkname="old"),
)


def assert_same(tar: bytes, cut: Sequence[bytes], base: bytes = BASE) -> None:
    for unpack in (one_after_the_other, each_alone):
        assert unpack([base, *cut]) == unpack([base, tar]), unpack.__name__


def check(*entries: Member, least: int = 2, **options: Any) -> list[bytes]:
    tar = layer(*entries, **options)
    cut = parts(tar)
    assert len(cut) >= least
    assert_same(tar, cut)
    return cut


def filler(count: int, start: int = 0) -> list[Member]:
    return [file(f"filler/{n}", 3000) for n in range(start, start + count)]


# --- files of every kind ----------------------------------------------------------------------------------


def test_files_stay_in_their_order() -> None:
    cut = check(folder("filler", mode=0o700, mtime=77), *filler(20))
    assert [name for part in cut for name in names(part) if name != "filler"] == [
        f"filler/{n}" for n in range(20)
    ]


def test_folders_keep_mode_owner_time_and_attributes_in_every_part() -> None:
    attributes = {"SCHILY.xattr.user.x": "y\n", "SCHILY.xattr.security.capability": "\1\0\0\2"}
    cut = check(
        folder("./", mode=0o700, mtime=3),
        folder("filler", mode=0o1777, mtime=5.25, uid=12, gid=13, pax_headers=attributes),
        folder("empty", mtime=9),
        *filler(20),
    )
    assert all(names(part)[0] in (".", "./", "") for part in cut)
    assert all("filler" in names(part) for part in cut)
    assert [("empty" in names(part)) for part in cut] == [True, *[False] * (len(cut) - 1)]


def test_special_files_and_names_of_every_kind() -> None:
    odd = [
        entry("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("dev/sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("fifo", kind=tarfile.FIFOTYPE),
        entry("sym", kind=tarfile.SYMTYPE, linkname="/" + "t" * 300),
        file("n" * 90 + "/" + "l" * 300, 2000, mode=0o4755),
        file("größe/層", 2000, mtime=1.5),
        file("bytes-\udcff\udcfe", 2000),
        file("capable", 2000, pax_headers={"SCHILY.xattr.security.capability": "\1\0\0\2\0 \0\0"}),
        file("empty", 0),
        file("block", 512),
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        check(*filler(5), *odd, *filler(9, 5), *(e for e in odd[:3]), form=form)


def test_sparse_files_of_old_gnu_tar() -> None:
    sparse = _sparse("holes", 24)
    tar = layer(*filler(4)).rstrip(b"\0")
    tar += bytes(-len(tar) % 512) + sparse + layer(*filler(9, 4))
    cut = parts(tar)
    assert len(cut) > 2
    assert sum(sparse in part for part in cut) == 1, "with its map, byte for byte"
    assert_same(tar, cut)


def _sparse(name: str, holes: int) -> bytes:
    """A file of type ``S`` whose map goes on in two more blocks."""
    member, _ = entry(name)
    places = [(n * 4096, 512) for n in range(holes)]
    data = random_bytes(512 * holes, 9)

    def numbers(of: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in of)

    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"%011o\0" % len(data)
    head[156:157] = b"S"
    head[386:482] = numbers(places[:4])
    head[482:483] = b"\1"
    head[483:495] = b"%011o\0" % (holes * 4096)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    rest = places[4:]
    blocks = [rest[at : at + 21] for at in range(0, len(rest), 21)]
    more = [numbers(block).ljust(504, b"\0") + bytes([block is not blocks[-1]]) for block in blocks]
    return bytes(head) + b"".join(block.ljust(512, b"\0") for block in more) + data


def test_a_sparse_file_with_pax_headers_goes_by_its_real_name() -> None:
    """GNU tar calls it ``GNUSparseFile.0/name`` in its header, and Go and others by this."""
    sparse = file("dir/GNUSparseFile.0/a", 900, pax_headers={"GNU.sparse.name": "target"})
    tar = layer(sparse, *filler(8), link("other", "target"))
    cut = parts(tar)
    assert "other" in names(cut[0])


def test_a_global_header_is_in_every_part() -> None:
    cut = check(*filler(20), pax_headers={"comment": "hello", "SCHILY.xattr.user.all": "1"})
    for part in cut:
        with tarfile.open(fileobj=io.BytesIO(part)) as read:
            assert read.pax_headers["comment"] == "hello"


# --- hard links -------------------------------------------------------------------------------------------


def test_a_hard_link_is_where_its_target_is() -> None:
    cut = check(
        folder("a", mtime=2),
        file("a/one", 3000),
        *filler(9),
        folder("b", mode=0o711, mtime=4),
        link("b/two", "a/one"),
        file("b/file", 3000),
        *filler(9, 9),
        link("./three", "./b/two"),
        link("four", "/filler/17"),
    )
    assert {"a/one", "b", "b/two", "./three"} <= set(names(cut[0]))
    (later,) = (part for part in cut if "b/file" in names(part))
    assert "b" in names(later), "it adds to that folder"
    assert "four" in names(cut[-1])


def test_a_link_for_which_its_part_has_no_room_left() -> None:
    """It goes to the end of the part, so nothing may come into that part which stood behind it in the tar,
    even if it is so small that there is room for it."""
    long = "t" * 200
    cut = check(*filler(3), file(long, 2000), link("l", long), file("l", 0), *filler(4, 4))
    assert names(cut[0])[-1] == "l"
    assert names(cut[1])[0] == "l"


def test_links_after_the_target_was_replaced() -> None:
    check(
        file("t", 1000),
        *filler(9),
        link("first", "t"),
        file("t", 1001),
        link("second", "t"),
        *filler(9, 9),
        link("third", "t"),
        link("fourth", "first"),
    )


def test_more_links_than_are_reserved_for() -> None:
    tar = layer(file("t", 100), *filler(9), *(link(f"links/{n}", "t") for n in range(12)))
    with pytest.raises(NoRoom):
        planned(tar)
    assert_same(tar, parts(tar, reserve=LIMIT // 2))


def test_a_link_to_what_is_not_in_the_layer_stays_where_it_is() -> None:
    tar = layer(*filler(9), link("l", "elsewhere"))
    assert "l" in names(parts(tar)[-1])


# --- deletions --------------------------------------------------------------------------------------------


def test_deletions_are_in_the_first_part() -> None:
    cut = check(
        entry("etc/.wh.old"),
        folder("opt/cache", mtime=3, mode=0o700),
        *(file(f"opt/cache/{n}", 3000) for n in range(12)),
        entry("opt/cache/.wh..wh..opq"),
        folder("var", mode=0o755, mtime=6),
        entry("var/.wh.kept"),
        file("var/new", 3000),
    )
    assert {"etc/.wh.old", "opt/cache/.wh..wh..opq", "var", "var/.wh.kept"} <= set(names(cut[0]))
    assert not [name for part in cut[1:] for name in names(part) if ".wh." in name]


def test_a_deletion_and_what_takes_its_place() -> None:
    check(*filler(9), entry("opt/.wh.cache"), *filler(3, 9), folder("opt/cache"), file("opt/cache/n", 3000))


@pytest.mark.parametrize("late", [0, 9])
def test_what_was_there_and_is_then_deleted_in_the_same_layer_is_refused(late: int) -> None:
    with pytest.raises(ImageUnsupported, match="etc/x and then its deletion"):
        planned(layer(file("etc/x", 1), *filler(late), entry("etc/.wh.x")))


def test_an_opaque_folder_told_late() -> None:
    """Behind what lies in it; one of its folders is there below, too."""
    below = layer(folder("a"), folder("a/b", mode=0o700, uid=7), file("a/b/old", 10))
    own = [folder("a"), folder("a/b", mode=0o750), file("a/b/new", 10), entry("a/.wh..wh..opq")]
    tar = layer(*filler(20), *own)
    assert_same(tar, parts(tar), below)
    bare = layer(*filler(20), file("a/b/new", 10), entry("a/.wh..wh..opq"))
    with pytest.raises(ImageUnsupported, match="opq comes after what is in its folder"):
        parts(bare)
    first = layer(file("a/b/new", 10), entry("a/.wh..wh..opq"), *filler(20))
    assert_same(first, parts(first), below)


# --- sizes ------------------------------------------------------------------------------------------------


def test_a_file_exactly_as_large_as_a_part_fits_and_a_larger_one_does_not() -> None:
    room = LIMIT - 1024 - 512
    cut = check(file("a", 100), file("big", room), file("c", 100), form=tarfile.GNU_FORMAT, least=3)
    assert len(cut[1]) == LIMIT
    with pytest.raises(ImageUnsupported) as caught:
        planned(layer(file("a", 100), file("sub/big", room + 1), form=tarfile.GNU_FORMAT))
    assert "sub/big in a layer has 0.0 MiB, too much" in caught.value.message
    assert "in pieces" in caught.value.hint


def test_the_first_file_too_large_is_told_at_once() -> None:
    tar = layer(file("big", LIMIT), *filler(3))
    stream = io.BytesIO(tar)
    with pytest.raises(ImageUnsupported, match="big in layer sha256:"):
        plan_layer(stream.read, limit=LIMIT, reserve=0, diff_id=sha256(tar))
    assert stream.tell() <= 512


def test_more_parts_than_engines_take_are_noticed_at_once() -> None:
    """Whatever else the layer holds."""
    stream = io.BytesIO(layer(*(file(f"{n}", 3000) for n in range(600))))
    with pytest.raises(ImageUnsupported, match="more than 127 layers") as caught:
        plan_layer(stream.read, limit=8192, reserve=0)
    assert "larger" in caught.value.hint
    assert stream.tell() < 300 * 3584


def test_a_layer_that_fits_is_one_part_with_its_bytes() -> None:
    tar = layer(*filler(2))
    (part,) = parts(tar)
    assert tar.startswith(part)


def test_a_layer_of_nothing() -> None:
    assert parts(bytes(LIMIT * 3)) == [bytes(1024)]


def test_memory_does_not_grow_with_the_files() -> None:
    tar = layer(*(file(f"{n}", 3_000_000) for n in range(8)))
    stream = io.BytesIO(tar)
    tracemalloc.start()
    try:
        plan = plan_layer(stream.read, limit=7_000_000, reserve=1000)
        stream.seek(0)
        for piece in parts_of(plan, stream.read, limit=7_000_000, wanted={p.diff_id for p in plan.parts}):
            while piece.stream.read(1 << 16):
                pass
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


# --- what cannot be cut, or is not what it was ------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("../up", 1)], "leads upwards"),
        ([file("a", 1), file("a/b", 1)], "a/b is below a, which is not a folder"),
        ([entry("lib", kind=tarfile.SYMTYPE, linkname="usr"), *filler(1), file("lib/x/y", 1)], "below lib"),
        ([file("a/b", 1), file("a", 1)], "a twice, once as a folder"),
        ([file("a", 1), folder("a/")], "a twice, once as a folder"),
        ([entry(".wh..wh.plnk")], "AUFS"),
        (
            [file("t/x", 1), entry("s", kind=tarfile.SYMTYPE, linkname="t"), link("l", "s/x")],
            "below no folder",
        ),
        ([entry(".wh.x", b"content")], "deletion that has content"),
        ([file("t", 1), *filler(9), file("l", 1), link("l", "t")], "l twice, once as a hard link"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_that_nothing_could_cut_faithfully(entries: list[Member], words: str) -> None:
    with pytest.raises(ImageUnsupported, match=words) as caught:
        planned(layer(*entries))
    assert caught.value.hint


def test_a_bomb_of_headers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_module, "_MAX_MEMORY", 50_000)
    planned(layer(*(folder(f"{n}") for n in range(40))), 1 << 20)
    with pytest.raises(ImageUnsupported, match="to remember its paths takes more than"):
        planned(layer(*(folder(f"{n}") for n in range(40)), *(file(f"f{n}", 0) for n in range(500))), 1 << 20)


@pytest.mark.parametrize("path", ["a" * 4097, "a/" * 256 + "a"])
def test_paths_that_only_take_time_are_refused(path: str) -> None:
    with pytest.raises(ImageUnsupported, match=f"has {len(path)} characters"):
        planned(layer(file(path, 1)))


def test_a_global_header_between_entries_is_refused() -> None:
    second = layer(file("b", 1), pax_headers={"comment": "x"})
    with pytest.raises(ImageUnsupported, match="global pax header"):
        planned(layer(file("a", 1))[:1024] + second)


def test_headers_without_end_are_refused() -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 16
    one = header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16)
    with pytest.raises(ArchiveInvalid, match="headers of one entry"):
        planned(one * 128)


def test_a_layer_that_is_cut_off_and_one_that_is_another() -> None:
    tar = layer(*filler(5))
    with pytest.raises(ArchiveTruncated):
        planned(tar[:5000])
    with pytest.raises(LayerMismatch):
        planned(tar, diff_id=sha256(b"other"))


def _other(tar: bytes) -> dict[str, bytes]:
    flipped = bytearray(tar)
    flipped[5000] ^= 1
    return {
        "a byte": bytes(flipped),
        "cut off": tar[:30_000],
        "shorter": layer(*filler(2)),
        "longer": layer(*filler(60)),
        "no tar": b"x" * len(tar),
        "too large now": layer(file("huge", LIMIT * 2)),
    }


@pytest.mark.parametrize("what", _other(layer(*filler(22))))
def test_a_layer_that_changed_after_it_was_planned(what: str) -> None:
    tar = layer(*filler(22))
    plan = planned(tar)
    wanted = {part.diff_id for part in plan.parts}

    def as_the_spool_does() -> None:
        for piece in parts_of(plan, io.BytesIO(_other(tar)[what]).read, limit=LIMIT, wanted=wanted):
            if sha256(piece.stream.read()) != piece.name:
                raise LayerMismatch("other bytes", hint="enqueue it again")

    with pytest.raises(LayerMismatch) as caught:
        as_the_spool_does()
    assert "enqueue" in caught.value.hint


def test_unwanted_parts_are_passed_over_and_nothing_is_read_behind_the_last() -> None:
    tar = layer(*filler(40))
    plan = planned(tar)
    stream = io.BytesIO(tar)
    wanted = {plan.parts[1].diff_id, plan.parts[2].diff_id}
    pieces = parts_of(plan, stream.read, limit=LIMIT, wanted=wanted)
    next(pieces).stream.read(10)  # and left alone
    assert sha256(next(pieces).stream.read()) == plan.parts[2].diff_id
    assert list(pieces) == []
    assert stream.tell() < len(tar) * 3 / 4


def test_what_comes_late_in_masses_is_not_stored() -> None:
    links = [link(f"links/{random_bytes(50, n, compressible=0).hex()}", "t") for n in range(4000)]
    tar = layer(file("t", 100), file("fill", 1_400_000), *links)
    limit, reserve = 9_000_000, 7_500_000
    assert planned(tar, limit, reserve).late is None
    assert_same(tar, parts(tar, limit, reserve, keep=True))


# --- anything ---------------------------------------------------------------------------------------------

_NAMES = ["a", "b", "c", "d"]


@st.composite
def trees(draw: st.DrawFn) -> list[Member]:
    """Entries that some tool could have written: folders before or after what is in them, or not at all."""
    paths = draw(
        st.lists(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3), min_size=10, max_size=40)
    )
    content: list[Member] = []
    folders: set[str] = set()
    files: list[str] = []
    for steps in paths:
        path = "/".join(steps)
        above = {"/".join(steps[:count]) for count in range(1, len(steps))}
        kind = draw(st.sampled_from(["file", "file", "folder", "link", "symlink", "whiteout", "opaque"]))
        values: dict[str, Any] = {
            "mode": draw(st.sampled_from([0o600, 0o755, 0o4711])),
            "mtime": draw(st.integers(1, 9)),
            "uid": draw(st.integers(0, 2)),
        }
        if above & set(files):
            continue
        if kind == "folder" and path not in files:
            content.append(folder(path, **values))
            folders |= above | {path}
        elif kind == "opaque" and path not in folders:  # image-spec: before what lies beside it
            content.append(entry(f"{path}/.wh..wh..opq"))
            folders |= above | {path}
            if path in files:
                content.pop()
        elif kind == "whiteout" and path not in files and path not in folders:
            content.append(entry("/".join((*steps[:-1], f".wh.{steps[-1]}"))))
            folders |= above
        elif kind in ("file", "symlink", "link") and path not in folders:
            if kind == "file":
                content.append(file(path, draw(st.sampled_from([0, 512, 3000, 4000])), **values))
            elif kind == "symlink":
                content.append(entry(path, kind=tarfile.SYMTYPE, linkname="../x", **values))
            elif files and path not in files:
                content.append(link(path, draw(st.sampled_from(files))))
            else:
                continue
            files.append(path)
            folders |= above
    return content


@settings(max_examples=120, deadline=None)
@given(
    content=trees(),
    base=trees(),
    limit=st.integers(12, 30).map(lambda blocks: blocks * 512),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_any_tree_unpacks_to_the_same(
    content: list[Member], base: list[Member], limit: int, form: int
) -> None:
    tar = layer(*content, form=form)
    below = layer(*base, form=form)
    for reserve in (limit // 8, limit // 2):
        try:
            cut = parts(tar, limit, reserve)
        except NoRoom:
            continue
        assert_same(tar, cut, below)
        return
    reject()


def test_folders_with_the_names_of_their_files_as_tar_g_writes_them() -> None:
    """Such a folder's data go wherever its header goes."""
    tar = layer(
        entry("./", b"Yetc\0\0", kind=b"D", mode=0o755),
        entry("etc/", b"Ya\0Yb\0Yc\0\0", kind=b"D", mode=0o755),
        *(file(f"etc/{name}", 9000) for name in "abc"),
        form=tarfile.GNU_FORMAT,
    )
    cut = parts(tar)
    assert len(cut) == 3
    for part in cut:
        assert names(part)[:2] == ["./", "etc/"]
        assert b"Ya\0Yb\0Yc\0\0" in part
