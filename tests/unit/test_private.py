"""The folder of PUSHER_HOME is its owner's alone: nobody else puts something there that pusher trusts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.config.load import sqlite_url
from pusher.config.private import check_private_file, check_private_folder, make_private_folder
from pusher.errors import HomeUnusable
from pusher.spool.spool import Spool
from pusher.store import migrate
from pusher.store.store import Store
from pusher.worker.liveness import WorkerIdentity
from tests.support.real import require

STRANGER = 4242


@pytest.fixture
def _as_root() -> None:
    """Only root can give a folder to another user."""
    require(root=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def _any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def users(home: Path) -> dict[str, object]:
    """Everything that opens something in PUSHER_HOME."""

    def present() -> None:
        with WorkerIdentity(home / "workers", 30.0):
            pass

    url = sqlite_url(home / "jobs.db")
    return {
        "store": lambda: Store.open(url).close(),
        "upgrade": lambda: migrate.upgrade(url),
        "spool": lambda: Spool(home / "spool"),
        "worker": present,
    }


def refused(home: Path, *names: str) -> list[str]:
    messages = []
    for name, use in users(home).items():
        if name in names or not names:
            with pytest.raises(HomeUnusable) as caught:
                use()  # type: ignore[operator]
            messages.append(caught.value.message)
            assert caught.value.hint
    return messages


# --- the folder -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_as_root")
def test_another_users_folder_is_refused_by_everything_that_uses_it(home: Path) -> None:
    os.chown(home, STRANGER, STRANGER)
    for message in refused(home):
        assert message.startswith(f"{home} belongs to the user {STRANGER}")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(home: Path, mode: int) -> None:
    home.chmod(mode)
    for message in refused(home):
        assert message.startswith(f"other users can write to {home}")
    assert list(home.iterdir()) == []


def test_the_hint_names_the_command_that_mends_it(home: Path) -> None:
    home.chmod(0o777)
    with pytest.raises(HomeUnusable) as caught:
        check_private_folder(home)
    command = caught.value.hint.split("`")[1]
    subprocess.run(["sh", "-c", command], check=True)
    check_private_folder(home)


def test_the_home_itself_may_be_a_link_to_a_folder_of_ours(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    Store.open(sqlite_url(tmp_path / "link" / "jobs.db")).close()
    Spool(tmp_path / "link" / "spool")
    home.chmod(0o777)
    refused(tmp_path / "link")


@pytest.mark.parametrize("_any_umask", [0, 0o22, 0o77, 0o777], indirect=True)
@pytest.mark.usefixtures("_any_umask")
def test_the_spool_is_closed_under_any_umask(tmp_path: Path) -> None:
    Spool(tmp_path / "new" / "spool")
    for path in (tmp_path / "new" / "spool", *(tmp_path / "new" / "spool").iterdir()):
        assert mode_of(path) == 0o700


def test_a_spool_that_an_older_pusher_left_open_is_closed(home: Path) -> None:
    (home / "spool").mkdir(mode=0o755)
    Spool(home / "spool")
    assert mode_of(home / "spool") == 0o700


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b" / "c")
    assert mode_of(tmp_path / "a" / "b" / "c") == 0o700


# --- what lies in it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spool", "spool/sha256", "spool/tmp", "spool/partial"])
def test_no_link_is_followed_for_the_spool(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).symlink_to(tmp_path / "elsewhere")
    assert refused(home, "spool") == [f"{home / name} is a symbolic link, which is not allowed there"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_link_is_followed_for_the_workers_locks(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (home / "workers").symlink_to(tmp_path / "elsewhere")
    assert refused(home, "worker") == [f"{home / 'workers'} is a symbolic link, which is not allowed there"]


@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-journal"])
def test_no_link_is_followed_for_the_store(home: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Store.open(sqlite_url(home / "jobs.db")).close()
    (home / name).unlink(missing_ok=True)
    (home / name).symlink_to(victim)
    assert (
        refused(home, "store", "upgrade")
        == [f"{home / name} is a symbolic link, which is not allowed there"] * 2
    )
    assert victim.read_text() == "precious"


def test_no_link_is_followed_for_the_stores_lock(home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (home / "jobs.db.lock").symlink_to(victim)
    refused(home, "store", "upgrade")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal", "jobs.db.lock"])
def test_a_pipe_is_refused_at_once(home: Path, name: str) -> None:
    os.mkfifo(home / name)
    assert refused(home, "store")[0] == f"{home / name} is not a regular file"


@pytest.mark.usefixtures("_as_root")
def test_a_device_and_another_users_file_are_refused(home: Path) -> None:
    os.mknod(home / "jobs.db", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    assert refused(home, "store") == [f"{home / 'jobs.db'} is not a regular file"]
    (home / "jobs.db").unlink()
    (home / "jobs.db").touch(mode=0o600)
    os.chown(home / "jobs.db", STRANGER, STRANGER)
    assert refused(home, "store")[0].startswith(f"{home / 'jobs.db'} belongs to the user {STRANGER}")


def test_what_is_not_there_is_no_fault(home: Path) -> None:
    check_private_file(home / "nothing")


def test_every_command_tells_it_and_does_not_hang(home: Path) -> None:
    os.mkfifo(home / "jobs.db")
    done = subprocess.run(
        [sys.executable, "-m", "pusher", "status"],
        env={**os.environ, "PUSHER_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 8
    assert done.stderr.startswith(f"error: {home / 'jobs.db'} is not a regular file\n  hint: ")
