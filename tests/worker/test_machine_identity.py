"""What identifies a machine: its own ID, the same at every start, another one in a copy elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.config import Settings
from pusher.errors import DiskFull, ExitCode, HomeUnusable, MachineExhausted, PusherError
from pusher.store.records import Machine
from pusher.worker import machine as module
from pusher.worker.machine import this_machine
from tests.support.processes import unmount_below
from tests.support.real import require


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    _on_host(monkeypatch, "host-1")
    return Settings(home=tmp_path / "home", database_url="sqlite://")


def _on_host(monkeypatch: pytest.MonkeyPatch, machine_id: str) -> None:
    monkeypatch.setattr(module, "machine_id", lambda: machine_id)


def test_a_machine_is_the_same_at_every_start(settings: Settings) -> None:
    found = this_machine(settings)
    assert found == this_machine(settings)
    assert found == Machine(found.id, socket.gethostname(), str(settings.home))
    assert "host-1" not in found.id
    assert stat.S_IMODE((settings.home / "machine").stat().st_mode) == 0o600


def test_containers_of_one_image_have_homes_of_their_own(settings: Settings, tmp_path: Path) -> None:
    other = replace(settings, home=tmp_path / "other")
    assert this_machine(settings).id != this_machine(other).id


def test_a_home_that_is_copied_to_another_host_is_another_machine(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = this_machine(settings)
    shutil.copytree(settings.home, tmp_path / "copy")
    _on_host(monkeypatch, "host-2")
    assert this_machine(replace(settings, home=tmp_path / "copy")).id != here.id
    assert this_machine(settings).id != here.id, "as with a home on NFS"
    _on_host(monkeypatch, "host-1")
    assert this_machine(settings).id == here.id, "which neither host changes for the other"


def test_a_file_system_without_hard_links_will_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert this_machine(settings) == this_machine(settings)
    assert [path.name for path in settings.home.iterdir()] == ["machine"]


def test_all_that_start_at_once_find_the_same(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: this_machine(settings), range(32)))
    assert len(found) == 1
    assert [path.name for path in settings.home.iterdir()] == ["machine"]


def test_spools_are_the_same_by_their_marker(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert this_machine(settings).spool is None, "it is in the home"
    shared = replace(settings, spool_folder=tmp_path / "shared")
    here = this_machine(shared)
    assert here.spool is not None
    _on_host(monkeypatch, "host-2")
    there = this_machine(replace(shared, home=tmp_path / "other"))
    assert (there.id != here.id, there.spool) == (True, here.spool)


@pytest.mark.parametrize("content", ["", "no id\n", "\xff"])
def test_a_file_that_holds_something_else_is_named(settings: Settings, content: str) -> None:
    this_machine(settings)
    (settings.home / "machine").write_text(content, encoding="latin-1")
    with pytest.raises(HomeUnusable, match="does not hold the ID") as caught:
        this_machine(settings)
    assert str(settings.home / "machine") in caught.value.message


def test_a_home_that_cannot_be_written_is_named(settings: Settings) -> None:
    settings.home.write_text("")
    with pytest.raises(HomeUnusable, match="cannot be"):
        this_machine(settings)


@pytest.mark.parametrize(
    ("number", "kind", "told", "advice"),
    [
        (errno.ENOSPC, DiskFull, "no space left on the disk of {}", "free some space there"),
        (errno.EDQUOT, DiskFull, "the disk quota is used up", "free some space there"),
        (errno.EROFS, HomeUnusable, "{} is on a disk that is mounted read-only", "make the disk writable"),
        (errno.EIO, MachineExhausted, "the disk of {} failed: Input/output error", "check the disk"),
        (errno.ENOTCONN, MachineExhausted, "the disk of {} cannot be reached", "check the file server"),
        (errno.ENOLCK, HomeUnusable, "the file system of {} does not support file locks", "PUSHER_HOME"),
        (errno.EMFILE, MachineExhausted, "this process cannot open any more files", "stop what"),
        (errno.EACCES, HomeUnusable, "{} cannot be read or written: Permission denied", "set PUSHER_HOME to"),
    ],
)
def test_a_fault_of_the_disk_is_not_blamed_on_the_home(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[PusherError],
    told: str,
    advice: str,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(kind) as caught:
            this_machine(settings)
    assert caught.value.message.startswith(told.format(settings.home / "machine"))
    assert caught.value.hint.startswith(advice)
    assert list(settings.home.iterdir()) == [], "a file half written would be another machine"


def test_a_full_disk_before_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mount", root=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=64k", "tmpfs", str(disk)], check=True)
    try:
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(DiskFull) as caught:
            this_machine(Settings(home=disk / "home", database_url="sqlite://"))
    finally:
        unmount_below(disk)
    assert caught.value.exit_code == ExitCode.UNFINISHED
    assert "PUSHER_HOME" not in caught.value.hint, "another home has another queue"
