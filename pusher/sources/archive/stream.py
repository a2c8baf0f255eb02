"""Store an archive from a pipe (``-``, ``<(...)``, ``/dev/stdin``, a FIFO) as a file, as a push may be
resumed when the pipe cannot be read again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import select
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pusher.config.private import make_private_folder
from pusher.errors import ArchiveInvalid, DiskFull, InvalidOption, PusherError, SourceError, home_error
from pusher.sources.archive import docker_archive
from pusher.sources.folders import LAYOUT_ARCHIVE
from pusher.sources.foreign_files import exists
from pusher.system import try_lock
from pusher.units import human_bytes

_STANDARD: Final = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_DESCRIPTORS: Final = ("/dev/fd/", "/proc/self/fd/")
_KINDS: Final = (docker_archive.KIND, LAYOUT_ARCHIVE)
_UNFINISHED: Final = ".part"
"""End of the names of incomplete files, which ``Spool.sweep`` removes once they are not locked."""
_READ: Final = 1 << 20
_SILENCE: Final = 10.0
"""Seconds after which it is said that nothing comes."""
_EXAMPLE: Final = "for example: docker save app:1.2 | pusher push - --to registry.example.com/team/app:1.2"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_stream(image: str) -> bool:
    """Return whether IMAGE is read from a pipe, and so only once."""
    return _parts(image) is not None


def is_standard_input(image: str) -> bool:
    """Return whether IMAGE is standard input."""
    parts = _parts(image)
    return parts is not None and parts[1] in _STANDARD


def receive(
    image: str, folder: Path, note: Callable[[str], object], begin: Callable[[], object] = lambda: None
) -> str:
    """Read the archive to its end into a file in ``folder``; return the IMAGE of that file.

    Equal bytes give the same file. ``note`` gets what is awaited; ``begin`` is called once the folder is
    there, before a file. Raises InvalidOption if the input
    is a terminal, ArchiveInvalid if it is empty, SourceError, and the errors of ``home_error``.
    """
    parts = _parts(image)
    assert parts is not None  # noqa: S101 - as ``is_stream`` says
    kind, place, name = parts
    if place in _STANDARD and os.isatty(0):
        raise InvalidOption(
            f"{image} means an archive on standard input, but that is a terminal", hint=_EXAMPLE
        )
    what = "standard input" if place in _STANDARD else place
    note(f"reading the archive from {what}")
    try:
        source = os.dup(0) if place in _STANDARD else os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable_error(what, error) from error
    try:
        try:
            make_private_folder(folder.parent, closed=True)
            make_private_folder(folder, closed=True)
            begin()
            path, size = _copy(source, folder, what, note)
        finally:
            os.close(source)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"no space in {folder} for the archive from {what}",
                hint="free some space there (pusher prune), or move PUSHER_HOME, or PUSHER_SPOOL where that "
                "is set, to a larger disk",
            ) from error
        raise home_error(
            error, folder, f"cannot write the archive from {what} to {folder}: {error.strerror or error}"
        ) from error
    note(f"kept {human_bytes(size)} from {what} while its job needs it: {path}")
    return f"{kind}:{path}:{name}" if name else f"{kind}:{path}" if kind else str(path)


def as_typed(error: PusherError, image: str, folder: Path) -> PusherError:
    """Return the same error about IMAGE as typed: the file in ``folder`` is removed when unused."""
    parts = _parts(image)
    assert parts is not None  # noqa: S101 - as ``is_stream`` says
    path = re.compile(re.escape(str(folder)) + r"/[0-9a-f]{64}\.tar")
    if not path.search(error.message + error.hint):
        return error
    message = path.sub("standard input" if parts[1] in _STANDARD else parts[1], error.message)
    hint = path.sub(parts[1], re.sub(f" > {path.pattern}", "", error.hint))
    return type(error)(message, hint=hint, retry_after=error.retry_after)


def _copy(source: int, folder: Path, what: str, note: Callable[[str], object]) -> tuple[Path, int]:
    """Copy all bytes of ``source`` to a file named by its digest; return it and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    descriptor, partial = _create_locked(folder)
    with os.fdopen(descriptor, "wb") as file:
        try:
            while data := _read(source, what, note):
                digest.update(data)
                size += len(data)
                file.write(data)
            if not size:
                raise ArchiveInvalid(
                    f"no data came from {what}",
                    hint=f"check what the command before the | reports; {_EXAMPLE}",
                )
            file.flush()
            return partial.replace(folder / f"{digest.hexdigest()}.tar"), size
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _create_locked(folder: Path) -> tuple[int, Path]:
    """Create a file that is locked while it is open, so that it can be removed once its process is dead."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=folder, suffix=_UNFINISHED)
        try:
            # ``Spool.sweep`` may lock and remove it between these two calls.
            if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return descriptor, Path(name)
        except OSError:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _read(source: int, what: str, note: Callable[[str], object]) -> bytes:
    while not select.select([source], [], [], _SILENCE)[0]:
        note(f"no data has come from {what} for {_SILENCE:.0f} s; Ctrl-C stops waiting")
    try:
        return os.read(source, _READ)
    except OSError as error:
        raise _unreadable_error(what, error) from error


def _unreadable_error(what: str, error: OSError) -> SourceError:
    return SourceError(f"cannot read {what}: {error.strerror or error}")


def _parts(image: str) -> tuple[str, str, str] | None:
    """Return the parts of ``[KIND:]PLACE[:NAME]``, None if PLACE is not a pipe."""
    prefix, _, rest = image.partition(":")
    kind, text = (prefix, rest) if prefix in _KINDS else ("", image)
    place, _, name = text.partition(":")
    if name and not kind:
        return None
    if place in _STANDARD or place.startswith(_DESCRIPTORS) or _is_fifo(Path(place)):
        return kind, place, name
    return None


def _is_fifo(path: Path) -> bool:
    return exists(path) and stat.S_ISFIFO(path.stat().st_mode)
