"""The schema: where it comes from, how it is brought up to date, that nothing is lost on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy import Connection, inspect

import pusher
from pusher.config.load import sqlite_url
from pusher.errors import DiskFull, StoreLocked, StoreOutdated, StoreReadOnly, StoreUnreachable
from pusher.sources.base import EVERYTHING
from pusher.sources.pins import DirPin, pin_from_json
from pusher.store import migrate, schema
from pusher.store.models import Base
from pusher.store.records import JobState, RegistryFacts
from pusher.store.store import Store
from pusher.store.url import file_of, parse_url
from tests.store.privileges import like_any_user
from tests.support.databases import digest, new_job

CHECKOUT = Path(str(pusher.__file__)).parent.parent
LATEST = schema.head()

NEXT_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{previous}"


def upgrade() -> None:
    rebuild = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("jobs", recreate=rebuild) as table:
        table.add_column(sa.Column("colour", sa.Text(), nullable=False, server_default="red"))
    {more}
"""

Release = Callable[..., Path]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Make the next version of pusher: one revision more, which rebuilds the table `jobs`."""

    def make(more: str = "pass") -> Path:
        folder = tmp_path / "next" / "migrations"
        shutil.copytree(migrate.folder(), folder, dirs_exist_ok=True)
        text = NEXT_REVISION.format(previous=schema.head(), more=more)
        (folder / "versions" / "next.py").write_text(text)
        monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "next"))
        monkeypatch.setattr(migrate, "folder", lambda: folder)
        return folder

    return make


def names(connection: Connection) -> dict[str, set[str | None]]:
    """Names of the CHECK constraints of each table, which Alembic does not compare."""
    inspector = inspect(connection)
    return {
        table: {str(check["name"]) for check in inspector.get_check_constraints(table)}
        for table in Base.metadata.tables
    }


def test_migrations_give_what_the_models_say(url: str, empty_url: str, kind: str, tmp_path: Path) -> None:
    if kind == "sqlite":
        (tmp_path / "models.db").touch()
        empty_url = sqlite_url(tmp_path / "models.db")
        url = sqlite_url(tmp_path / "migrated.db")
        (tmp_path / "migrated.db").touch()
        with changing(url) as connection:
            migrate._run(connection)
    with changing(empty_url) as connection:
        Base.metadata.create_all(connection)
        expected = names(connection)
    with changing(url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert names(connection) == expected
    assert sum(len(checks) for checks in expected.values()) > 10


def test_the_list_of_revisions_is_the_folder_s() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.folder()))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == schema.REVISIONS


def test_upgrading_tells_from_where_to_where(empty_url: str) -> None:
    assert migrate.upgrade(empty_url) == (None, schema.head())
    assert migrate.upgrade(empty_url) == (schema.head(), schema.head())
    report = migrate.check(empty_url)
    assert (report.current, report.head, report.problems) == (schema.head(), schema.head(), ())


def test_a_current_store_is_opened_without_alembic(url: str, kind: str) -> None:
    command = [sys.executable, "-m", "tests.store.programs", "open", url]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert loaded == ("set()\n" if kind == "sqlite" else "{'psycopg'}\n")


def test_many_may_create_the_store_at_once(empty_url: str, kind: str) -> None:
    opened: list[int] = []

    def create() -> None:
        if kind == "postgresql":
            migrate.upgrade(empty_url)
        with Store.open(empty_url) as store:
            opened.append(store.jobs.add(new_job()).id)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(opened) == [1, 2, 3, 4, 5, 6]


def make_store(url: str, revision: str) -> None:
    """A job store as a released version of pusher left it."""
    if parse_url(url).is_sqlite:
        path = file_of(parse_url(url))
        path.parent.mkdir(parents=True)
        path.touch()
    config = Config()
    config.set_main_option("script_location", str(migrate.folder()))
    with changing(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


_OLD_JOB = """INSERT INTO jobs (id, image, source, config_digest, host, repository, tag, state, priority,
    attempts, options, bytes_sent, created_at, lease_token) VALUES (7, 'app:1',
    '{"kind": "dir", "path": "/d", "root": "sha256:r"}',
    'sha256:c', 'r.example', 'app', '1', 'paused', 0, 0, '{}', 0, '2026-01-01 00:00:00', 3)"""
_OLD_ROWS = (
    _OLD_JOB,
    """INSERT INTO layers (job_id, position, diff_id, state, bytes_sent)
    VALUES (7, -1, 'sha256:c', 'pending', 0), (7, 0, 'sha256:1', 'pending', 0)""",
    """INSERT INTO events (job_id, at, kind, message)
    VALUES (7, '2026-01-01 00:00:00', 'queued', ''), (7, '2026-01-01 00:00:00', 'note', 'before')""",
    """INSERT INTO registries (host, max_chunk, profile)
    VALUES ('r.example', 7000000, NULL), ('tiny.example', 124, 'monolithic')""",
    """INSERT INTO uploads (host, repository, digest, state, location, "offset", in_flight, chunk_size,
    lease_token) VALUES ('tiny.example', 'app', 'sha256:1', 'open', 'http://x/', 240, 0, 80, 0)""",
)
"""What the first version wrote, in columns that every later one up to 0007 has."""


@pytest.mark.parametrize("revision", [each for each in schema.REVISIONS if each <= "0007"])
def test_every_released_schema_is_upgraded_with_its_jobs(
    empty_url: str, release: Release, revision: str
) -> None:
    url = empty_url
    make_store(url, revision)
    with changing(url) as connection:
        for statement in _OLD_ROWS:
            connection.exec_driver_sql(statement)
    release()
    assert migrate.upgrade(url) == (revision, "next")
    with Store.open(url) as store:
        job = store.jobs.get(7)
        assert (job.image, job.destination, job.state) == ("app:1", "r.example/app:1", JobState.PAUSED)
        assert (job.created_at.year, job.lease_token) == (2026, 3)
        assert pin_from_json(job.source) == DirPin(Path("/d"), "sha256:r", EVERYTHING)
        assert (job.keeps_older, job.superseded_by) == (False, None)
        assert len(store.blobs.of_job(job.id)) == 2
        assert [event.kind for event in store.events.of(job.id)] == ["queued", "note"]
        with store._database.read() as connection:
            assert connection.value("SELECT colour FROM jobs") == "red"
        if revision < "0005":
            assert store.facts.get("tiny.example") == RegistryFacts("tiny.example"), (
                "learned from tiny bodies"
            )
            with store._database.read() as connection:
                tiny = connection.value("SELECT chunk_size FROM uploads")
            assert tiny == 256 * 1024, "and the rest of an upload goes in chunks of a size"
        assert store.facts.get("r.example") == RegistryFacts("r.example", max_chunk=7_000_000)
        assert store.facts.update("r.example", carries=1.5).carries == 1.5
    assert migrate.check(url).problems == ()


def test_what_images_and_registries_said_of_layers_is_forgotten(empty_url: str) -> None:
    """Only pairs of diff ID and blob that pusher made stay; an unfinished job looks for the others again."""
    make_store(empty_url, "0002")
    made, claimed = (digest("1"), digest("a")), (digest("2"), digest("b"))
    with changing(empty_url) as connection:
        for job, options in ((7, {}), (8, {"documents": digest("c")})):
            connection.exec_driver_sql(
                _OLD_JOB.replace("(7", f"({job}").replace("'{}'", f"'{json.dumps(options)}'")
            )
            for position, (diff_id, blob) in enumerate((made, claimed)):
                connection.exec_driver_sql(
                    "INSERT INTO layers (job_id, position, diff_id, digest, size, state, bytes_sent) "
                    f"VALUES ({job}, {position}, '{diff_id}', '{blob}', 5, 'ready', 0)"
                )
        for (diff_id, blob), label in ((made, "isal-1.8:2"), (claimed, "original")):
            connection.exec_driver_sql(
                "INSERT INTO blob_memos (diff_id, digest, compression, size, media_type, created_at) "
                f"VALUES ('{diff_id}', '{blob}', '{label}', 5, 'm', '2026-01-01 00:00:00')"
            )
    migrate.upgrade(empty_url)
    with Store.open(empty_url) as store:
        found = store.known_blobs.of_layers([made[0], claimed[0]])
        assert [blob.digest for blob in found[made[0]]] == [made[1]]
        assert found[claimed[0]] == []
        blobs = [[layer.digest for layer in store.blobs.of_job(job)] for job in (7, 8)]
        assert blobs == [[made[1], None], [made[1], claimed[1]]], "a manifest names its own blobs"


def test_the_id_of_a_pruned_job_is_not_used_again_after_an_upgrade(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "old" / "jobs.db")
    make_store(url, "0002")
    with changing(url) as connection:
        connection.exec_driver_sql(_OLD_JOB)
        connection.exec_driver_sql("DELETE FROM jobs")
    with Store.open(url) as store:
        assert store.jobs.add(new_job()).id == 8


def test_sqlite_is_upgraded_by_itself_and_a_copy_is_kept(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "jobs.db"
    url = sqlite_url(path)
    with Store.open(url) as old:
        job = old.jobs.add(new_job())
        assert not list(tmp_path.glob("*.before-*")), "there was nothing to copy"
        release()  # the old version still runs, its job lies in the log only
        Store.open(url).close()
    copy = tmp_path / "jobs.db.before-next"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(LATEST,)]
        assert connection.execute("SELECT id, state FROM jobs").fetchall() == [(job.id, JobState.QUEUED)]
    assert migrate.check(url).current == "next"


def test_copies_of_earlier_upgrades_do_not_pile_up(tmp_path: Path, release: Release) -> None:
    url, day = sqlite_url(tmp_path / "jobs.db"), 86400
    Store.open(url).close()
    for name in ("jobs.db.before-0002", "jobs.db.before-0002.part", "other.db.before-0002"):
        (tmp_path / name).write_text("")
    release()
    Store.open(url).close()
    left = {path.name for path in tmp_path.glob("*.before-*")}
    assert left == {"jobs.db.before-next", "other.db.before-0002"}
    copy = tmp_path / "jobs.db.before-next"
    migrate.remove_old_copies(url, 7 * day)
    assert copy.exists()
    os.utime(copy, (time.time() - 8 * day,) * 2)
    migrate.remove_old_copies(url, 7 * day)
    assert not copy.exists()
    migrate.remove_old_copies("postgresql://nowhere/pusher", 0)


@pytest.mark.parametrize("free", ["little", "gone on the way"])
def test_without_room_nothing_is_upgraded_and_no_part_of_a_copy_is_left(
    tmp_path: Path, release: Release, monkeypatch: pytest.MonkeyPatch, free: str
) -> None:
    path = tmp_path / "jobs.db"
    url = sqlite_url(path)
    with Store.open(url) as store:
        job = store.jobs.add(new_job())
    release()
    if free == "little":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=path.stat().st_size))
    else:
        monkeypatch.setattr(Path, "replace", _no_room)
    with pytest.raises((DiskFull, StoreUnreachable)):
        Store.open(url)
    assert not list(tmp_path.glob("*.before-*"))
    monkeypatch.undo()
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job


def _no_room(_path: Path, _to: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_upgrade_that_fails_changes_nothing(url: str, release: Release) -> None:
    with Store.open(url) as store:
        job = store.jobs.add(new_job())
    folder = release("raise RuntimeError('the power went out')")
    with pytest.raises(RuntimeError):
        migrate.upgrade(url)
    assert migrate.check(url).current == LATEST
    with changing(url) as connection:
        assert "colour" not in {column["name"] for column in inspect(connection).get_columns("jobs")}
    (folder / "versions" / "next.py").write_text(NEXT_REVISION.format(previous=LATEST, more="pass"))
    migrate.upgrade(url)
    with Store.open(url) as store:
        assert store.jobs.get(job.id) == job


def changing(url: str) -> AbstractContextManager[Connection]:
    """A transaction of SQLAlchemy's, as migrations have it."""
    return migrate.connect_sqlalchemy(parse_url(url))


def test_an_old_store_on_postgresql_waits_for_the_command(url: str, kind: str, release: Release) -> None:
    release()
    if kind == "sqlite":
        Store.open(url).close()
        assert migrate.check(url).current == "next"
        return
    with pytest.raises(StoreOutdated):
        Store.open(url)
    assert migrate.upgrade(url) == (LATEST, "next")


def test_an_old_store_that_cannot_be_written_says_so(tmp_path: Path, release: Release) -> None:
    home = tmp_path / "home"
    url = sqlite_url(home / "jobs.db")
    Store.open(url).close()
    release()
    home.chmod(0o500)
    with like_any_user(), pytest.raises(StoreReadOnly, match="schema next"):
        Store.open(url)
    home.chmod(0o700)


def test_an_upgrade_waits_for_another_only_so_long(
    tmp_path: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path / "jobs.db")
    Store.open(url).close()
    release()
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.05)
    with FileLock(tmp_path / "jobs.db.lock"), pytest.raises(StoreLocked, match="upgrades the job store"):
        Store.open(url)


def test_an_interrupted_creation_is_finished(tmp_path: Path) -> None:
    """A kill between making the file and committing the schema leaves an empty file."""
    (tmp_path / "jobs.db").touch()
    with Store.open(sqlite_url(tmp_path / "jobs.db")) as store:
        assert store.jobs.list() == []


def test_in_a_checkout_the_folder_is_the_checkout_s() -> None:
    assert migrate.folder() == CHECKOUT / "migrations"


def test_the_wheel_carries_the_migrations_and_finds_them(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    site = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    shipped = {file.name for file in (site / "pusher" / "_migrations" / "versions").glob("*.py")}
    assert shipped == {file.name for file in (CHECKOUT / "migrations" / "versions").glob("*.py")}
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pusher.store import migrate\n"
        "print(migrate.folder(), migrate.upgrade(sys.argv[2]))\n"
    )
    url = sqlite_url(tmp_path / "jobs.db")
    command = [sys.executable, "-P", "-c", program, str(site), url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, env={})
    assert done.stdout.strip() == f"{site / 'pusher' / '_migrations'} {(None, schema.head())}"


def build_wheel(tmp_path: Path) -> Path:
    """Only what the store needs, so that the test does not depend on the rest of the checkout."""
    for name in ("pusher", "migrations"):
        shutil.copytree(
            CHECKOUT / name, tmp_path / "src" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        source = CHECKOUT / name
        (tmp_path / "src" / name).write_text(source.read_text() if source.exists() else "")
    program = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path / "src", capture_output=True, text=True, check=True)
    return tmp_path / done.stdout.split()[-1]
