"""The folder of a registry, what is asked of an address, and the command around both."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from pusher.errors import (
    CertificateFileUnusable,
    DiskFull,
    FolderInUse,
    InvalidOption,
    ListenFailed,
    PasswordMissing,
)
from pusher.serve.access import Access
from pusher.serve.api import Api
from pusher.serve.app import make_app
from pusher.serve.catalog import Catalog, SessionRow
from pusher.serve.local import LocalRegistry
from pusher.serve.metrics import Metrics
from pusher.serve.server import Address, Certificate, open_sockets, run_server
from tests.cli.conftest import Pusher, home, pusher  # noqa: F401 - pytest finds fixtures by name
from tests.store.privileges import like_any_user


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with closing(LocalRegistry(tmp_path / "r")), pytest.raises(FolderInUse):
        LocalRegistry(tmp_path / "r")
    LocalRegistry(tmp_path / "r").close()


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    LocalRegistry(tmp_path / "r").close()
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidOption, match="holds other things"):
        LocalRegistry(tmp_path)
    with pytest.raises(InvalidOption, match="is a file"):
        LocalRegistry(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidOption, match="cannot be created or opened: Not a directory"):
        LocalRegistry(tmp_path / "file" / "r")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o500)
    with (
        like_any_user(),
        pytest.raises(InvalidOption, match="or opened: Permission denied"),
    ):
        LocalRegistry(tmp_path / "r")


def test_a_disk_without_room_for_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DiskFull):
        LocalRegistry(tmp_path / "r")


def test_a_disk_without_room_for_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("pusher.serve.local.Catalog", full)
    with pytest.raises(DiskFull, match=r"no space left on the disk of .*registry\.db"):
        LocalRegistry(tmp_path)


def test_a_catalog_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database" * 1000)
    with pytest.raises(InvalidOption, match="cannot be read"):
        LocalRegistry(tmp_path)


def test_a_catalog_of_a_newer_pusher(tmp_path: Path) -> None:
    LocalRegistry(tmp_path).close()
    with closing(Catalog(tmp_path / "registry.db")) as catalog, catalog.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InvalidOption, match="newer pusher"):
        LocalRegistry(tmp_path)


def test_uploads_that_nobody_touches_end_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(LocalRegistry(tmp_path / "r")) as registry:
        old, continued = (registry.uploads.open("a", "sha256") for _ in range(2))
        os.utime(old.path, (0, 0))
        week_later = time.time() + 7.5 * 86400
        os.utime(continued.path, (week_later - 3600, week_later - 3600))
        monkeypatch.setattr(time, "time", lambda: week_later)
        new = registry.uploads.open("a", "sha256")
        assert {row.id for row in registry.catalog.uploads()} == {continued.id, new.id}
        assert not old.path.exists()


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    with closing(LocalRegistry(tmp_path / "r")) as registry:
        kept = registry.uploads.open("a", "sha256")
        (registry.folder / "uploads" / "orphan").write_bytes(b"x")
    with closing(LocalRegistry(tmp_path / "r")) as registry:
        assert [path.name for path in (registry.folder / "uploads").iterdir()] == [kept.id]


@pytest.mark.parametrize("spoilt", ["registry.db", "uploads"])
def test_a_registry_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path, spoilt: str) -> None:
    LocalRegistry(tmp_path / "r").close()
    if (path := tmp_path / "r" / spoilt).is_dir():
        path.rmdir()
    path.write_bytes(b"x" * 5000)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises((InvalidOption, FileExistsError)) as caught:
        LocalRegistry(tmp_path / "r")
    left = set(Path("/proc/self/fd").iterdir()) - before
    assert not left, caught.value


def test_a_disk_that_fills_inside_a_change_is_named(tmp_path: Path) -> None:
    """SQLite has ended the transaction then."""
    with closing(LocalRegistry(tmp_path / "r")) as registry:
        connection = registry.catalog._connection
        connection.execute("PRAGMA max_page_count = 1000")
        change = "INSERT INTO manifests VALUES ('a', '1', 'm', NULL, 'd', zeroblob(8000000))"
        with pytest.raises(sqlite3.OperationalError) as caught, registry.catalog.transaction():
            connection.execute(change)
        assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
        registry.catalog.add_blob("a", "sha256:1")


# --- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["5055", "localhost", ":5055", "::1:5055", "localhost:99999", "a:0000001000000", "a:b", "a:", ""],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidOption, match="is not an address and a port"):
        Address.parse(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1:5055", "[::1]:5055", "localhost:0", "0.0.0.0:80", "example.com:1"]
)
def test_addresses(text: str) -> None:
    address = Address.parse(text)
    assert str(address) == text
    assert address.is_local == (text[0] in "1[l")


def test_localhost_is_every_address_of_it() -> None:
    sockets = open_sockets(Address("localhost", 0))
    try:
        assert len({listener.getsockname()[1] for listener in sockets}) == 1
        assert {listener.getsockname()[0] for listener in sockets} <= {"127.0.0.1", "::1"}
    finally:
        for listener in sockets:
            listener.close()


def test_addresses_that_cannot_be_had() -> None:
    for host, what in (("192.0.2.1", "cannot listen"), ("no-such-host.invalid", "has no address")):
        with pytest.raises(ListenFailed, match=what):
            open_sockets(Address(host, 0))


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for content in (None, "not PEM"):
        for path in files:
            if content:
                path.write_text(content)
        with closing(LocalRegistry(tmp_path / "r")) as registry:
            app, sockets = (
                make_app(Api(registry), Access(is_local=True), Metrics()),
                open_sockets(Address("127.0.0.1", 0)),
            )
            with pytest.raises(CertificateFileUnusable, match=r"cert\.pem"):
                run_server(app, sockets, note=print, certificate=Certificate(*files))


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "0.0.0.0:0"], "could push and pull"),
        (["--listen", "0.0.0.0:0", "--username", "a", "--password-stdin"], "unencrypted"),
        (["--tls-cert", "a.pem"], "must be used together"),
        (["--password-stdin"], "needs a user name"),
        (["--username", "a:b"], "contains a colon"),
        (["--listen", "nowhere"], "is not an address"),
    ],
)
def test_options_that_make_no_sense(pusher: Pusher, tmp_path: Path, options: list[str], said: str) -> None:  # noqa: F811
    result = pusher("serve", "--local", str(tmp_path / "r"), *options)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "r").exists()


def test_a_user_needs_a_password(pusher: Pusher, tmp_path: Path) -> None:  # noqa: F811
    result = pusher("serve", "--local", str(tmp_path / "r"), "--username", "alice")
    assert result.code == PasswordMissing.exit_code
    assert "no password for 'alice'" in result.err


def test_uploads_are_listed_after_the_clock_was_set_back(tmp_path: Path) -> None:
    with closing(LocalRegistry(tmp_path / "registry")) as registry:
        registry.catalog.add_upload(SessionRow("id", "app", "sha256", time.time() + 3600))
        assert [row.id for row in registry.catalog.uploads()] == ["id"]
