"""Tars of entries of any kind, for layers that hold more than regular files."""

from __future__ import annotations

import io
import tarfile
from typing import Any, Final

from tests.support.images import random_bytes

Member = tuple[tarfile.TarInfo, bytes]

_TIME: Final = 1_600_000_000


def entry(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **values: Any) -> Member:
    """``values`` are attributes of tarfile.TarInfo."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime, member.type = len(data), 0o644, _TIME, kind
    for key, value in values.items():
        setattr(member, key, value)
    return member, data


def folder(name: str, **values: Any) -> Member:
    return entry(name, kind=tarfile.DIRTYPE, mode=values.pop("mode", 0o755), **values)


def link(name: str, target: str) -> Member:
    return entry(name, kind=tarfile.LNKTYPE, linkname=target)


def file(name: str, size: int, **values: Any) -> Member:
    return entry(name, random_bytes(size, len(name)), **values)


def layer(*entries: Member, form: int = tarfile.PAX_FORMAT, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape", **options) as tar:
        for member, data in entries:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
