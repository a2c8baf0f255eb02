"""Parse the blocks of a tar: V7, POSIX, GNU and star headers, pax records, maps of sparse files.

Where readers differ, this follows Go's ``archive/tar``, which engines use. Python's ``tarfile`` reads the
access time in a GNU header as the beginning of the name.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

BLOCK: Final = 512
FILES: Final = b"\x000S7"
"""Kinds that are regular files, sparse and contiguous ones among them."""
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
FOLDERS: Final = b"5D"
"""``D`` is what GNU tar writes for incremental dumps: a folder whose data are the names in it."""
SPARSE: Final = b"S"
LONG_NAME: Final = b"L"
LONG_TARGET: Final = b"K"
PAX: Final = b"xX"
"""``X`` is what Solaris wrote before pax was a standard."""
PAX_FOR_ALL: Final = b"g"
DESCRIBING: Final = LONG_NAME + LONG_TARGET + PAX + PAX_FOR_ALL
"""Kinds that describe the next entry, and are not entries themselves."""
WITHOUT_DATA: Final = b"123456"

LARGEST: Final = 2**63 - 1
NAME_LIMIT: Final = 64 << 10
_MAX_PIECES: Final = 1 << 18
"""Most pieces of one sparse file: no file system creates this many holes, and their map takes 4 MiB."""
_NEEDED: Final = frozenset({b"path", b"linkpath", b"size"})
"""Keywords of pax records that are looked at, with sparse files': the others would only fill memory."""
_SPARSE_KEY: Final = b"GNU.sparse."
_SPARSE_VERSIONS: Final = ((b"1", b"0"), (b"0", b"1"), (b"0", b"0"), (b"", b""))


class Damaged(ValueError):
    """Blocks that are not a tar's, with what is wrong there."""


class Header(NamedTuple):
    """One header block. ``size``: bytes of the data behind it, as far as the block itself says."""

    name: bytes
    kind: bytes
    size: int
    target: bytes


Pieces: TypeAlias = "array[int]"
"""A sparse file's data, as offset, length, offset, length, ... in bytes: type ``q``."""


def parse_header(block: bytes) -> Header:
    """Read one block that is not all zeros. Raises Damaged for a wrong checksum or an invalid number."""
    _check_sum(block)
    kind = block[156:157]
    size = number(block[124:136], "a size")
    if size < 0:
        raise Damaged("a header has a negative size")
    name = _text(block[0:100])
    if prefix := _prefix(block):
        name = prefix + b"/" + name
    return Header(name, kind, 0 if kind in WITHOUT_DATA else size, _text(block[157:257]))


def number(field: bytes, what: str = "a number") -> int:
    """Return a number in octal digits, or in base 256 (GNU tar manual, "Standard"); Damaged if invalid."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -LARGEST <= value <= LARGEST:
            raise Damaged(f"a header has {what} of more than 63 bits")
        return value
    digits = field.strip(b" \0")
    digits = digits.partition(b"\0")[0].partition(b" ")[0]
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Damaged(f"a header has {what} that is none") from None


def _check_sum(block: bytes) -> None:
    """Check the sum of a header. POSIX adds unsigned bytes; some old tars added signed ones."""
    try:
        wanted = number(block[148:156])
    except Damaged:
        wanted = -1
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    if wanted not in (unsigned, unsigned - 256 * sum(byte >> 7 for byte in rest)):
        raise Damaged("there is no tar header")


def _prefix(block: bytes) -> bytes:
    """Return the prefix of the name; only POSIX and star have a field for it."""
    magic = block[257:265]
    if magic[:6] == b"ustar\0":
        return _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    if magic == b"ustar  \0" and not (_is_time(block[345:357]) and _is_time(block[357:369])):
        # Go before 1.8, and so Docker until 1.12, wrote a prefix into GNU headers: what is not a time is one
        prefix = _text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""


def _is_time(field: bytes) -> bool:
    try:
        number(field)
    except Damaged:
        return False
    return True


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


# --- pax ---------------------------------------------------------------------------------------------------


def pax_records(data: bytes) -> dict[str, bytes]:
    """Return what is needed of ``<length> <key>=<value>\\n`` records (POSIX pax, "pax Extended Header").

    The pieces of sparse files in version 0.0, one record each, become one ``GNU.sparse.map`` as in 0.1.
    Raises Damaged.
    """
    records: dict[str, bytes] = {}
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        blank = data.find(b" ", start, start + 20)
        length = data[start:blank] if blank > start else b""
        end = start + int(length) if length.isdigit() else 0
        key, separator, value = data[blank + 1 : end - 1].partition(b"=")
        if not separator or not start < blank < end <= len(data):
            raise Damaged("a pax header cannot be read")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pieces.append(value)
        elif key in _NEEDED or key.startswith(_SPARSE_KEY):
            records[key.decode("ascii", "replace")] = value
        start = end
    if "GNU.sparse.numblocks" in records:
        records.setdefault("GNU.sparse.map", b",".join(pieces))
    return records


def decimal(value: bytes, what: str) -> int:
    """Return a number in a pax record or a sparse file's map. Raises Damaged."""
    if not value.isdigit() or len(value) > 19 or int(value) > LARGEST:
        raise Damaged(f"{what} is {value[:40].decode('ascii', 'replace')!a}")
    return int(value)


def read_records(header: Header, data: bytes) -> dict[str, bytes]:
    """Return what the ``data`` of a describing header say of the next entry, as pax records. Raises Damaged.

    Go's reader ignores names and sizes in a global pax header.
    """
    if header.kind in LONG_NAME + LONG_TARGET:
        return {"path" if header.kind == LONG_NAME else "linkpath": _text(data)}
    records = pax_records(data)
    return {} if header.kind == PAX_FOR_ALL else records


class EntryName(NamedTuple):
    """An entry's header with what stood before it. ``stored``: bytes of its data in the tar."""

    name: bytes
    target: bytes | None
    stored: int
    is_file: bool
    is_folder: bool


def resolve_name(header: Header, own: Mapping[str, bytes]) -> EntryName:
    """Put together what a header says and what ``said`` gave before it. Raises Damaged."""
    name = own.get("GNU.sparse.name") or own.get("path") or header.name
    target = own.get("linkpath") or header.target
    if max(len(name), len(target)) > NAME_LIMIT:
        raise Damaged(f"a name has {max(len(name), len(target))} bytes")
    is_folder = header.kind in FOLDERS or (header.kind == b"\0" and name.endswith(b"/"))
    stored = header.size
    if own.get("size") and header.kind not in WITHOUT_DATA:
        stored = decimal(own["size"], "the size of an entry")
    return EntryName(
        name=name,
        target=target if header.kind in SYMLINK + HARD_LINK else None,
        stored=stored,
        is_file=header.kind in FILES and not is_folder,
        is_folder=is_folder,
    )


# --- sparse files ------------------------------------------------------------------------------------------


def is_sparse(records: Mapping[str, bytes]) -> bool:
    """Return whether pax records are those of a sparse file. Raises Damaged if it is stored in an unknown
    way."""
    version = records.get("GNU.sparse.major", b""), records.get("GNU.sparse.minor", b"")
    if version not in _SPARSE_VERSIONS:
        raise Damaged("a sparse file is stored in an unknown way")
    return version == (b"1", b"0") or "GNU.sparse.map" in records


def sparse_size(records: Mapping[str, bytes], otherwise: int) -> int:
    """Return the size that pax records give a sparse file, with its holes."""
    size = records.get("GNU.sparse.size") or records.get("GNU.sparse.realsize")
    return decimal(size, "the size of a sparse file") if size else otherwise


def pieces_of_header(block: bytes, more: Callable[[], bytes]) -> tuple[int, Pieces]:
    """Return the size and the pieces of an old GNU sparse file; ``more`` gives the blocks after it."""
    size = number(block[483:495], "a size")
    numbers = array("q")
    fields, goes_on = block[386:482], block[482]
    while True:
        for position in range(0, len(fields) - 23, 24):
            if not fields[position]:
                break
            numbers.append(number(fields[position : position + 12]))
            numbers.append(number(fields[position + 12 : position + 24]))
        if not goes_on:
            return size, numbers
        if len(numbers) > 2 * _MAX_PIECES:
            raise Damaged("a sparse file is in very many pieces")
        block = more()
        fields, goes_on = block[:504], block[504]


def pieces_of_record(value: bytes) -> Pieces:
    """Return the pieces in a ``GNU.sparse.map`` (pax 0.0 and 0.1)."""
    return _numbers(value.split(b",") if value else [])


def pieces_of_data(more: Callable[[], bytes]) -> Pieces:
    """Return the pieces in the blocks before a sparse file's data (pax 1.0), their number first."""
    text = bytearray()
    lines = wanted = 0
    while not wanted or lines < wanted:
        block = more()
        text += block
        lines += block.count(b"\n")
        if lines and not wanted:
            wanted = 1 + 2 * decimal(bytes(text.partition(b"\n")[0]), "the number of a sparse file's pieces")
        if wanted > 2 * _MAX_PIECES or len(text) > _MAX_PIECES * 40:
            raise Damaged("a sparse file is in very many pieces")
    return _numbers(bytes(text).split(b"\n", wanted)[1:wanted])


def check_pieces(pieces: Pieces, size: int, stored: int) -> None:
    """Raise Damaged unless they lie within the file, one behind the other, and are what is stored."""
    end = total = 0
    for position in range(0, len(pieces), 2):
        offset, length = pieces[position], pieces[position + 1]
        if offset < end or length < 0 or offset + length > size:
            raise Damaged("the pieces of a sparse file overlap, or lie outside of it")
        end = offset + length
        total += length
    if total != stored:
        raise Damaged(f"a sparse file has {stored} bytes, but its map lists {total}")


def _numbers(values: Sequence[bytes]) -> Pieces:
    if len(values) % 2:
        raise Damaged("the map of a sparse file has no end")
    return array("q", (decimal(value, "a number in a sparse file's map") for value in values))
