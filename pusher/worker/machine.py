"""Identify this machine among those that share a job store."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import uuid
from pathlib import Path
from typing import Final

from pusher.config import Settings
from pusher.config.private import check_private_file, make_private_folder
from pusher.errors import HomeUnusable, home_error
from pusher.store.records import Machine
from pusher.store.store import Store
from pusher.system import machine_id

_FILE: Final = "machine"
"""In PUSHER_HOME: a random ID."""
_MARKER: Final = "spool-id"
"""In a spool that machines may share: a random ID."""


def this_machine(settings: Settings) -> Machine:
    """Return this machine: a PUSHER_HOME on a host.

    Its ID is made of a random one in the home and the host's machine ID. So it differs between containers
    that have the machine ID of one image, between hosts that share a home on NFS, and between a home and its
    copy on another host; no host's own ID is stored. Raises HomeUnusable, and the
    errors of ``home_error``.
    """
    home = _read_id(settings.home / _FILE)
    spool = None
    if settings.spool_folder is not None:
        spool = str(_read_id(settings.spool_folder / _MARKER))
    return Machine(_machine_id(home), socket.gethostname(), str(settings.home), spool)


def check_shared_spool(machine: Machine | None, settings: Settings) -> None:
    """Raise HomeUnusable if the shared spool is not the one that this worker started with: its file system
    was unmounted, or another one was mounted. Nothing that it lacks is then lost."""
    if machine is None or machine.spool is None or settings.spool_folder is None:
        return
    marker = settings.spool_folder / _MARKER
    try:
        is_same = marker.read_text(encoding="ascii").strip() == machine.spool
    except (FileNotFoundError, ValueError):
        is_same = False
    except OSError as error:
        raise home_error(error, marker, f"{marker} cannot be read: {error.strerror}") from error
    if not is_same:
        raise HomeUnusable(
            f"{settings.spool_folder} is not the spool that it was: {_MARKER} is not there, or another one",
            hint="mount the file system again (see findmnt), then: pusher run",
        )


def find_machine_id(home: Path) -> str | None:
    """Return the ID of this machine, which is not created; None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return _machine_id(uuid.UUID((home / _FILE).read_text(encoding="ascii").strip()))
    return None


def _machine_id(home: uuid.UUID) -> str:
    return str(uuid.uuid5(home, machine_id()))


def record_machine(store: Store, settings: Settings) -> Machine | None:
    """Record this machine in a job store that machines share, and return it for the jobs whose images are
    here; None for a store that no other machine uses. Raises as ``this_machine``, and StoreError."""
    if not store.is_shared:
        return None
    machine = this_machine(settings)
    store.workers.record_machine(machine)
    return machine


def _read_id(path: Path) -> uuid.UUID:
    """Return the random ID in a file, which is created if needed: by a link, so that it is never half
    written, and processes that create it at once read the same."""
    try:
        make_private_folder(path.parent)
        check_private_file(path)
        with contextlib.suppress(FileNotFoundError):
            return uuid.UUID(path.read_text(encoding="ascii").strip())
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{uuid.uuid4()}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links, such as exFAT
                if not path.exists():
                    part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        return uuid.UUID(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise home_error(error, path, f"{path} cannot be read or written: {error.strerror}") from error
    except ValueError as error:
        raise HomeUnusable(
            f"{path} does not hold the ID that pusher wrote there",
            hint="see what it holds, and remove it; jobs of this machine are then moved to it by: "
            "pusher move JOB --here",
        ) from error
