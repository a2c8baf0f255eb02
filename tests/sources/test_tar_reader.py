"""Walking a tar: names of every kind, from files and pipes, and what is wrong with a bad one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusher.errors import ArchiveInvalid, ArchiveTruncated
from pusher.sources.file_range import open_buffered
from pusher.sources.tar import reader
from tests.support.images import Entry, write_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def pipe(data: bytes) -> reader.PipeInput:
    """Like a pipe: never more than 700 bytes at once."""
    stream = io.BytesIO(data)
    return reader.PipeInput(
        lambda size: stream.read(min(size, 700)), "the pipe", lambda buffer: stream.readinto(buffer[:700])
    )


def read_all(source: reader.Input) -> Iterator[tuple[str, bytes | None]]:
    for entry in reader.walk(source):
        yield entry.name, open_buffered(reader.EntryStream(source, entry)).read() if entry.is_file else None


def both(path: Path) -> tuple[list[tuple[str, bytes | None]], list[tuple[str, bytes | None]]]:
    with path.open("rb") as file:
        return list(read_all(reader.FileInput(file, "the file"))), list(read_all(pipe(path.read_bytes())))


@pytest.mark.parametrize("tar_format", FORMATS.values(), ids=FORMATS)
def test_files_folders_and_links(tmp_path: Path, tar_format: int) -> None:
    content = [
        Entry("folder/"),
        Entry("folder/file", b"x" * 1000),
        Entry("empty", b""),
        Entry("exactly-a-block", b"y" * 512),
        Entry("link", target="folder/file"),
        Entry("last", b"z"),
    ]
    path = write_tar(tmp_path / "t.tar", content, tar_format=tar_format)
    from_file, from_pipe = both(path)
    assert from_file == from_pipe
    assert [(name.rstrip("/"), data) for name, data in from_file] == [
        (entry.name.rstrip("/"), entry.data) for entry in content
    ]
    with path.open("rb") as file:
        link = next(entry for entry in reader.walk(reader.FileInput(file, "t")) if entry.name == "link")
    assert (link.target, link.is_hardlink, link.is_file) == ("folder/file", False, False)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_and_foreign_names_and_targets(tmp_path: Path, tar_format: int) -> None:
    long, foreign = "d" * 90 + "/" + "n" * 300, "größe/層.tar"
    content = [Entry(long, b"1"), Entry(foreign, b"2"), Entry("l", target=long), Entry("short", b"3")]
    path = write_tar(tmp_path / "t.tar", content, tar_format=tar_format)
    from_file, from_pipe = both(path)
    assert from_file == from_pipe == [(long, b"1"), (foreign, b"2"), ("l", None), ("short", b"3")]
    with path.open("rb") as file:
        entries = list(reader.walk(reader.FileInput(file, "t")))
    assert [entry.target for entry in entries] == [None, None, long, None]


def test_a_size_in_a_pax_header_counts(tmp_path: Path) -> None:
    """A layer of 8 GiB or more has its size there, and anything in the header."""
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("big")
        member.size, member.pax_headers = 700, {"size": "700"}
        file.addfile(member, io.BytesIO(b"b" * 700))
    data = bytearray(path.read_bytes())
    header = 1024  # after the pax header and its one block of records
    data[header + 124 : header + 136] = b"00000000000\0"
    data[header + 148 : header + 156] = b" " * 8
    data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    path.write_bytes(data)
    from_file, from_pipe = both(path)
    assert from_file == from_pipe == [("big", b"b" * 700)]


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=200),
            st.binary(max_size=2000),
        ),
        max_size=8,
    ),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_names_and_data_come_back(content: list[tuple[str, bytes]], tar_format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as file:
        for name, data in content:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    assert list(read_all(pipe(buffer.getvalue()))) == content


def test_entries_left_alone_are_skipped(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("a", b"1" * 5000), Entry("b", b"2" * 5000)])
    source = pipe(path.read_bytes())
    assert [entry.name for entry in reader.walk(source)] == ["a", "b"]
    assert source.at_end_marker


def test_half_read_entries_are_skipped_from_there(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("a", b"1" * 5000), Entry("b", b"2" * 10)])
    source, seen = pipe(path.read_bytes()), []
    for entry in reader.walk(source):
        seen.append(open_buffered(reader.EntryStream(source, entry)).read(7))
    assert seen == [b"1" * 7, b"2" * 7]


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize(
    ("cut", "words"),
    [(700, "inside a"), (100, "tar header"), (512 + 1024 + 30, "tar header"), (512, "0 of its 1000 bytes")],
)
def test_a_cut_is_reported_with_where(tmp_path: Path, kind: str, cut: int, words: str) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("a", b"1" * 1000), Entry("b", b"2")])
    path.write_bytes(path.read_bytes()[:cut])
    with path.open("rb") as file:
        source = reader.FileInput(file, "the archive") if kind == "file" else pipe(path.read_bytes())
        with pytest.raises(ArchiveTruncated) as caught:
            list(reader.walk(source))
    assert words in caught.value.message


def test_a_cut_while_an_entry_is_read_is_reported(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("layer.tar", b"1" * 100_000)])
    with pytest.raises(ArchiveTruncated) as caught:
        list(read_all(pipe(path.read_bytes()[:50_000])))
    assert "of its 100000 bytes" in caught.value.message


def test_an_end_without_a_marker_is_known(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("a", b"1" * 512)])
    source = pipe(path.read_bytes()[:1024])
    assert [entry.name for entry in reader.walk(source)] == ["a"]
    assert not source.at_end_marker


def test_bytes_that_are_no_header_are_reported_with_where(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [Entry("a", b"1" * 512), Entry("b", b"2")])
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"\xff" * 76
    with pytest.raises(ArchiveInvalid, match="at byte 1024"):
        list(reader.walk(pipe(bytes(data))))


def _with_pax(records: bytes) -> bytes:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    member = tarfile.TarInfo("a")
    return header.tobuf() + records.ljust(512, b"\0") + member.tobuf() + bytes(1024)


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"999 path=x\n",
        b"3 path=x\n",
        b"-5 path=x\n",
        b"0 path=x\n",
        b"11 nosign\n\n",
        b"10 size=x\n",
        b"40 size=" + b"9" * 31 + b"\n",
        b"1" * 5000,
        b"99999999999999999999 path=x\n",
        b"18446744073709551616 path=x\n",
        b"1 path=x\n",
        b"6 path=x\n",
        b" path=x\n",
    ],
)
def test_nonsense_in_a_pax_header_is_refused(records: bytes) -> None:
    with pytest.raises(ArchiveInvalid):
        list(reader.walk(pipe(_with_pax(records))))


def test_a_pax_header_of_100_mb_is_refused_before_it_is_read() -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 100 << 20
    with pytest.raises(ArchiveInvalid, match="104857600"):
        list(reader.walk(pipe(header.tobuf(tarfile.GNU_FORMAT))))


def test_pax_headers_of_many_records_are_read_in_no_time() -> None:
    """200,000 records, none of which is needed: none is kept, and each is looked at once."""
    records = b"5 a=\n" * 200_000
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XGLTYPE, len(records)
    data = header.tobuf() + records + bytes(-len(records) % 512) + tarfile.TarInfo("a").tobuf()
    assert [entry.name for entry in reader.walk(pipe(data + bytes(1024)))] == ["a"]


@pytest.mark.parametrize("form", ["base-256", "pax"])
def test_an_entry_of_8_eib_is_cut_off(tmp_path: Path, form: str) -> None:
    member = tarfile.TarInfo("big")
    member.size = (1 << 63) - 1
    data = member.tobuf(tarfile.GNU_FORMAT if form == "base-256" else tarfile.PAX_FORMAT) + b"data"
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ArchiveTruncated, match=f"4 of its {(1 << 63) - 1} bytes"):
        list(reader.walk(pipe(data)))
    with (tmp_path / "a.tar").open("rb") as file, pytest.raises(ArchiveTruncated, match="4 of its"):
        list(reader.walk(reader.FileInput(file, "a.tar")))


def test_the_number_of_headers_can_be_bounded() -> None:
    data = b"".join(tarfile.TarInfo(name).tobuf() for name in "abc")
    assert len(list(reader.walk(pipe(data), most=3))) == 3
    with pytest.raises(ArchiveInvalid, match="very many files"):
        list(reader.walk(pipe(data), most=2))


def test_a_name_of_absurd_length_is_refused_before_it_is_read() -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(ArchiveInvalid):
        list(reader.walk(pipe(header.tobuf(tarfile.GNU_FORMAT))))


def test_a_long_name_that_is_cut_off() -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 300
    with pytest.raises(ArchiveTruncated, match="tar header"):
        list(reader.walk(pipe(header.tobuf(tarfile.GNU_FORMAT) + b"n" * 100)))


def test_a_negative_size_is_refused() -> None:
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ArchiveInvalid, match="negative size"):
        list(reader.walk(pipe(bytes(header))))


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 4095), value=st.integers(0, 255))
def test_a_damaged_byte_never_gives_anything_but_our_errors(position: int, value: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("é" * 60)
        member.size, member.mtime = 600, 1.5
        file.addfile(member, io.BytesIO(b"d" * 600))
    data = bytearray(buffer.getvalue()[:4096])
    data[position] = value
    with suppress(ArchiveInvalid, ArchiveTruncated):
        assert len(list(read_all(pipe(bytes(data))))) <= 3
