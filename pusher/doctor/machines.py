"""Compare the machines that share a job store: identities, clocks, versions and spools."""

from __future__ import annotations

import socket
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from pusher import __version__
from pusher.config import Settings
from pusher.errors import HomeUnusable
from pusher.store.records import Machine
from pusher.store.store import Store
from pusher.text import printable
from pusher.units import human_seconds
from pusher.worker.job_machines import ListedMachine, ListedWorker, list_machines
from pusher.worker.machine import this_machine

_CLOCK: Final = 2.0
"""Seconds of difference between two clocks that are not mentioned."""


def compare_machines(store: Store, settings: Settings) -> str:
    """Return the facts, as one sentence. Raises HomeUnusable if another host has the identity of this one."""
    here = this_machine(settings)
    listed = list_machines(store, settings.workers)
    _check_identity(here, listed)
    others = [each for each in listed if each.record.machine.id != here.id]
    use = "1 other machine uses" if len(others) == 1 else f"{len(others)} other machines use"
    facts = [
        f"this machine is {printable(here.name)}, and {use} the job store",
        _compare_clock(store),
        _compare_versions(listed),
        _compare_spools(here, others),
    ]
    return "; ".join(filter(None, facts))


def _check_identity(here: Machine, listed: Collection[ListedMachine]) -> None:
    """Raise HomeUnusable if a worker of another host has the ID of this machine: its home is a copy of this
    one, on a system that was copied with its machine ID."""
    for each in listed:
        hosts = {worker.worker.id.partition("/")[0] for worker in _alive(each)} - {socket.gethostname()}
        if each.record.machine.id == here.id and hosts:
            other = printable(min(hosts))
            raise HomeUnusable(
                f"a worker on {other} has the identity of this machine: one PUSHER_HOME is a copy of the "
                "other, or this host was renamed",
                hint=f"on the copy remove {here.home}/machine; after a renaming restart the worker",
            )


def _compare_clock(store: Store) -> str:
    difference = (datetime.now(UTC) - store.now()).total_seconds()
    if abs(difference) < _CLOCK:
        return "its clock agrees with the server's"
    direction = "ahead of" if difference > 0 else "behind"
    return f"its clock is {human_seconds(abs(difference))} {direction} the server's, which counts"


def _compare_versions(listed: Collection[ListedMachine]) -> str:
    found = {
        f"{printable(worker.worker.version)} on {printable(each.record.machine.name)}"
        for each in listed
        for worker in _alive(each)
        if worker.worker.version != __version__
    }
    return f"workers of another version than {__version__}: {', '.join(sorted(found))}" if found else ""


def _compare_spools(here: Machine, others: Collection[ListedMachine]) -> str:
    if here.spool is None:
        return ""
    machines = [each.record.machine for each in others]
    shared = sorted({printable(each.name) for each in machines if each.spool == here.spool})
    if shared:
        return f"its spool is shared with {', '.join(shared)}"
    return "no other machine has its spool: PUSHER_SPOOL is another folder there, or none" if machines else ""


def _alive(listed: ListedMachine) -> list[ListedWorker]:
    return [worker for worker in listed.workers if not worker.is_gone]
