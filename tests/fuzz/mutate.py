"""Changes of bytes: small ones that stay near what is valid, and what readers stumble over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

_NASTY: Final = (
    *(b"\0", b"\xff", b"\x1b[2J", b"\xc2\x9b", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\r\n", b"\n", b" ", b"\t"),
    *(b"-1", b"0", b"1e999", b"9" * 20, b"9223372036854775808", b"18446744073709551616", b"9" * 5000, b"NaN"),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"[" * 1200,
        b'{"a":' * 1200,
        b'"\\ud800"',
        b"..",
        b"/",
        b"~root",
    ),
    *(
        b"sha256:",
        b"sha256:" + b"0" * 64,
        b"sha512:" + b"0" * 128,
        b"@",
        b":",
        b"%00",
        b"%",
        b"=",
        b",",
        b'"',
    ),
    *(b"a" * 300, b"\xe9", b"\\", b"?" * 3000, b"<title" * 500, b"," * 3000, b"\x1f\x8b\x08", b"(\xb5/\xfd"),
)


def mutated(seed: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """``seed`` after one to four changes; ``others`` are inputs of the same reader to take pieces of."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_CHANGES)(data, others, chance)
    return bytes(data[: 1 << 20])


def _span(data: bytearray, chance: random.Random, longest: int = 64) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.randint(0, longest))


def _flip(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start, end = _span(data, chance, 8)
    data[start:end] = chance.randbytes(end - start)


def _delete(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start, end = _span(data, chance)
    del data[start:end]


def _repeat(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start, end = _span(data, chance)
    data[end:end] = data[start:end] * chance.choice((1, 2, 50))


def _insert(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    start, _end = _span(data, chance)
    data[start:start] = chance.choice(_NASTY)


def _replace(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    """A word or number by something nasty."""
    start = chance.randint(0, len(data))
    end = start
    while end < len(data) and chr(data[end]).isalnum():
        end += 1
    data[start:end] = chance.choice(_NASTY)


def _splice(data: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    start, end = _span(bytearray(other), chance, 600)
    at, _end = _span(data, chance)
    data[at:at] = other[start:end]


def _cut(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    del data[chance.randint(0, len(data)) :]


_CHANGES: Final[Sequence[Callable[[bytearray, Sequence[bytes], random.Random], None]]] = (
    *(_flip, _overwrite, _delete, _repeat, _insert, _replace, _replace, _splice, _cut),
)
