"""Headers and sparse files as every tar writes them: GNU tar and Go among them, read as they read them."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from pusher.errors import ArchiveInvalid, ArchiveTruncated
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.tar import headers, reader
from tests.support.images import Image, Layer, Shape, entries, make_layer, sha256, tar_of

HOLE, DATA = 300_000, b"data " * 1000
SPARSE_FORMATS = {
    "gnu": ["--format=gnu"],
    "pax-0.0": ["--format=posix", "--sparse-version=0.0"],
    "pax-0.1": ["--format=posix", "--sparse-version=0.1"],
    "pax-1.0": ["--format=posix", "--sparse-version=1.0"],
}


def gnu_tar(*arguments: str, folder: Path) -> str:
    program = shutil.which("tar")
    assert program
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def pipe(data: bytes) -> reader.PipeInput:
    stream = io.BytesIO(data)
    return reader.PipeInput(lambda size: stream.read(min(size, 700)), "the pipe")


def contents(data: bytes) -> dict[str, bytes | None]:
    source = pipe(data)
    return {
        entry.name: reader.passing(source, entry).read() if entry.is_file else None
        for entry in reader.walk(source)
    }


def summed(header: bytes | bytearray) -> bytes:
    """A header with the checksum that it should have."""
    header = bytearray(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def changed(name: str, *fields: tuple[int, bytes], form: Literal[0, 1, 2] = tarfile.GNU_FORMAT) -> bytes:
    """The header of an empty file with other bytes at some places."""
    header = bytearray(tarfile.TarInfo(name).tobuf(form))
    for position, value in fields:
        header[position : position + len(value)] = value
    return summed(header)


def names(*headers: bytes) -> list[str]:
    return [entry.name for entry in reader.walk(pipe(b"".join(headers) + bytes(1024)))]


def sparse_folder(tmp_path: Path, pieces: int = 3) -> Path:
    """A folder with a file that has holes, before, between and behind its data."""
    folder = tmp_path / "files"
    folder.mkdir()
    with (folder / "holes").open("wb") as file:
        for number in range(pieces):
            file.seek(HOLE * (number + 1))
            file.write(DATA)
        file.truncate(HOLE * (pieces + 2))
    (folder / "after").write_bytes(b"after")
    return folder


# --- names --------------------------------------------------------------------------------------------


def test_access_times_in_gnu_headers_are_no_part_of_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "name").write_bytes(b"1")
    (folder / "below" / "link").hardlink_to(folder / "below" / "name")
    gnu_tar("-c", "-f", "a.tar", "-g", "snapshot", "files", folder=tmp_path)
    data = (tmp_path / "a.tar").read_bytes()
    assert data[345:357].strip(b"0\0 "), "the header has an access time"
    assert "/" not in data[:100].partition(b"\0")[0].decode().rstrip("/")
    listed = gnu_tar("-t", "-f", "a.tar", folder=tmp_path).split()
    found = list(reader.walk(pipe(data)))
    assert [entry.name for entry in found] == listed
    assert [entry.is_folder for entry in found] == [True, True, False, False]
    link = next(entry for entry in found if entry.is_hardlink)
    assert link.target in listed


def test_posix_headers_have_a_prefix() -> None:
    name = "p" * 120 + "/name"
    header = tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)
    assert header[345:346] == b"p"
    assert names(header) == [name]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ([(345, b"00000000001\0"), (357, b"00000000002\0")], "name"),
        ([(345, b"\x80" + bytes(10) + b"\1"), (357, b"13000000000\0")], "name"),
        ([(345, b"13000000000\0")], "name"),
        ([], "name"),
        # as Go before 1.8 wrote it, and so Docker until 1.12
        ([(345, b"usr/lib/python/site-packages")], "usr/lib/python/site-packages/name"),
        ([(345, b"d\xc3\xa9j\xc3\xa0/vu")], "name"),
    ],
)
def test_what_stands_for_a_prefix_in_gnu_headers(fields: list[tuple[int, bytes]], name: str) -> None:
    assert names(changed("name", *fields)) == [name]


def test_headers_without_a_magic_have_no_prefix() -> None:
    assert names(changed("name", (257, bytes(8)), (345, b"nonsense"))) == ["name"]


def test_the_times_in_a_header_of_star_are_no_part_of_its_prefix() -> None:
    fields = [(345, b"prefix"), (476, b"13000000000 "), (488, b"13000000000 "), (508, b"tar\0")]
    assert names(changed("name", *fields, form=tarfile.USTAR_FORMAT)) == ["prefix/name"]


def test_a_sum_of_signed_bytes_is_a_sum() -> None:
    header = bytearray(changed("caf\xe9", form=tarfile.GNU_FORMAT))
    header[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert names(bytes(header)) == ["café"]


def test_a_pax_header_for_all_entries_names_none_of_them() -> None:
    """Go gives it as an entry of its own, so no engine applies it."""
    records = b"10 path=x\n"
    header = tarfile.TarInfo("pax_global_header")
    header.type, header.size = tarfile.XGLTYPE, len(records)
    data = header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")
    assert names(data, tarfile.TarInfo("a").tobuf(), tarfile.TarInfo("b").tobuf()) == ["a", "b"]


def test_a_folder_of_the_oldest_tars_is_known_by_its_name() -> None:
    found = list(reader.walk(pipe(changed("folder/", (156, b"\0"), (257, bytes(8))) + bytes(1024))))
    assert [(entry.is_folder, entry.is_file) for entry in found] == [(True, False)]


@pytest.mark.parametrize(
    "field", [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"0000000009\0 ", b"99999999999\0"]
)
def test_a_size_that_is_none_is_refused(field: bytes) -> None:
    with pytest.raises(ArchiveInvalid, match="size"):
        names(changed("a", (124, field)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"00000000017\0", 15),
        (b"         17 ", 15),
        (b"17\0garbage\0\0", 15),
        (bytes(12), 0),
        (b"\x80" + bytes(10) + b"\x0f", 15),
        (b"777777777777", 0o777777777777),
    ],
)
def test_sizes_in_every_notation(field: bytes, value: int) -> None:
    assert headers.parse_header(changed("a", (124, field))).size == value


# --- sparse files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1, 3, 40])
@pytest.mark.parametrize("form", SPARSE_FORMATS.values(), ids=SPARSE_FORMATS)
def test_sparse_files_are_read_with_their_holes(tmp_path: Path, form: list[str], pieces: int) -> None:
    folder = sparse_folder(tmp_path, pieces)
    gnu_tar("-c", "-S", "-f", "a.tar", *form, "-C", "files", "holes", "after", folder=tmp_path)
    data = (tmp_path / "a.tar").read_bytes()
    assert len(data) < HOLE or pieces == 40, "its holes are not stored"
    assert contents(data) == {"holes": (folder / "holes").read_bytes(), "after": b"after"}


@pytest.mark.parametrize("form", SPARSE_FORMATS.values(), ids=SPARSE_FORMATS)
def test_sparse_files_that_are_left_alone_are_skipped(tmp_path: Path, form: list[str]) -> None:
    sparse_folder(tmp_path)
    gnu_tar("-c", "-S", "-f", "a.tar", *form, "-C", "files", "holes", "after", folder=tmp_path)
    assert names((tmp_path / "a.tar").read_bytes()) == ["holes", "after"]


@pytest.mark.parametrize("form", SPARSE_FORMATS.values(), ids=SPARSE_FORMATS)
def test_a_sparse_file_that_is_cut_off(tmp_path: Path, form: list[str]) -> None:
    sparse_folder(tmp_path)
    gnu_tar("-c", "-S", "-f", "a.tar", *form, "-C", "files", "holes", folder=tmp_path)
    data = (tmp_path / "a.tar").read_bytes()
    for length in range(512, len(data) - 10240, 999):
        with pytest.raises(ArchiveTruncated):
            contents(data[:length])


def old_sparse(size: int, *pieces: tuple[int, int], stored: int = 0, form: bytes = b"%011o\0") -> bytes:
    fields = [(156, b"S"), (124, b"%011o\0" % stored), (483, form % size)]
    for number, (offset, length) in enumerate(pieces):
        fields += [(386 + 24 * number, form % offset), (398 + 24 * number, form % length)]
    return changed("holes", *fields)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([(0, 512), (0, 512)], "overlap"),
        ([(512, 512), (0, 512)], "overlap"),
        ([(1536, 1024)], "overlap, or lie outside"),
        ([(0, 512)], "1024 bytes, but its map lists 512"),
        ([], "1024 bytes, but its map lists 0"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(pieces: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(ArchiveInvalid, match=words):
        names(old_sparse(2048, *pieces, stored=1024) + bytes(1024))


def pax_sparse(records: dict[str, str], data: bytes) -> bytes:
    member = tarfile.TarInfo("GNUSparseFile.0/holes")
    member.size, member.pax_headers = len(data), records
    header = member.tobuf(tarfile.PAX_FORMAT)
    return header + data.ljust(-(-len(data) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    ("records", "data", "words"),
    [
        ({"GNU.sparse.map": "0,1,2", "GNU.sparse.size": "9"}, b"12", "has no end"),
        ({"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"}, b"12", "a number in a sparse file's map is 'x'"),
        ({"GNU.sparse.map": "0,-1", "GNU.sparse.size": "9"}, b"12", "'-1'"),
        ({"GNU.sparse.map": "0,2", "GNU.sparse.size": "1"}, b"12", "outside"),
        ({"GNU.sparse.major": "2", "GNU.sparse.minor": "0"}, b"12", "unknown way"),
        ({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, b"x\n".ljust(512, b"\0"), "pieces is 'x'"),
        (
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
            b"1\n0\n2\n".ljust(512, b"\0"),
            "0 bytes, but its map lists 2",
        ),
        (
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 18},
            b"9999999\n".ljust(512, b"\0"),
            "very many pieces",
        ),
    ],
)
def test_a_map_that_is_none_is_refused(records: dict[str, str], data: bytes, words: str) -> None:
    with pytest.raises(ArchiveInvalid, match=words):
        names(pax_sparse(records, data))


def test_a_map_without_an_end_is_not_read_to_it() -> None:
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    endless = pax_sparse(records, b"") + bytes(64 << 20)
    source = pipe(endless)
    with pytest.raises(ArchiveInvalid, match="very many pieces"):
        list(reader.walk(source))
    assert source.position < 16 << 20


def test_a_sparse_file_of_8_eib_is_not_filled_with_zeros() -> None:
    size = b"\x80\0\0\0\x7f" + b"\xff" * 7
    header = summed(old_sparse(0)[:483] + size + old_sparse(0)[495:])
    source = pipe(header + bytes(1024))
    (entry,) = [entry for entry in reader.walk(source) if entry.size == 2**63 - 1]
    with pytest.raises(ArchiveInvalid, match="a sparse file of 9223372036854775807 bytes"):
        reader.passing(source, entry)


def write_with_holes(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        for start in range(0, len(data), 4096):
            if any(data[start : start + 4096]):
                file.seek(start)
                file.write(data[start : start + 4096])
        file.truncate(len(data))


@pytest.mark.parametrize("shape", ["classic", "containerd", "docker25"])
@pytest.mark.parametrize("form", SPARSE_FORMATS.values(), ids=SPARSE_FORMATS)
def test_archives_whose_layers_were_packed_again_with_holes(
    tmp_path: Path, form: list[str], shape: Shape
) -> None:
    """`tar -S` of an unpacked archive: the layer is what it was, with its zeros."""
    layer = Layer(tar_of([("zeros", bytes(500_000)), ("text", b"text"), ("more", bytes(300_000))]))
    image = Image((layer, make_layer(100)), ("app:1",))
    if shape == "containerd":
        layer.__dict__["gzip"] = gzip.compress(layer.tar, compresslevel=0, mtime=0)
    for entry in entries(shape, image):
        if entry.data is not None:
            (tmp_path / "files" / entry.name).parent.mkdir(parents=True, exist_ok=True)
            write_with_holes(tmp_path / "files" / entry.name, entry.data)
    gnu_tar("-cS", "--hole-detection=raw", *form, "-f", "a.tar", "-C", "files", ".", folder=tmp_path)
    assert (tmp_path / "a.tar").stat().st_size < 200_000
    source = ArchiveSource(tmp_path / "a.tar")
    found = source.resolve()
    wanted = {layer.export_name for layer in found.layers if not layer.file}
    with source.export(wanted) as pieces:
        given = {piece.name: sha256(piece.stream.read()) for piece in pieces}
    assert given == {name: name for name in wanted}
    assert (layer.digest if shape == "containerd" else layer.diff_id) in given
