"""What was typed, what is set, and what this machine does: no registry has a part in it."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from pusher.errors import LeaseLost
from pusher.serve.local import LocalRegistry
from pusher.store import engine
from pusher.worker import background
from pusher.worker.background import BackgroundLock
from pusher.worker.job_push import JobPush
from tests.cli.world import NAME, World, situation
from tests.store.privileges import like_any_user
from tests.support.quick import COMMANDS, hand_in

# --- the command line ---------------------------------------------------------------------------------------


@situation("command-line-invalid")
def no_such_command(world: World) -> None:
    world.run("pusj", "app:1.2")


@situation("command-line-invalid-option", "command-line-invalid")
def no_such_option(world: World) -> None:
    world.run("run", "--paralel", "3")


@situation("command-line-invalid-argument", "command-line-invalid")
def no_image(world: World) -> None:
    world.run("push")


@situation("option-invalid-job-name", "option-invalid")
def a_name_for_a_job(world: World) -> None:
    world.run("log", "app:1.2")


@situation("option-invalid")
def not_a_size(world: World) -> None:
    world.run("run", "--chunk-size", "huge")


@situation("option-invalid-rate", "option-invalid")
def half_a_timetable(world: World) -> None:
    world.run("run", "--limit-rate", "08:00-18:00")


@situation("option-invalid-profile", "option-invalid")
def no_such_profile(world: World) -> None:
    world.run("run", "--profile", "docker")


@situation("option-invalid-login", "option-invalid")
def login_nowhere(world: World) -> None:
    world.run("login")


@situation("option-invalid-job", "option-invalid")
def no_job_named(world: World) -> None:
    world.run("pause")


@situation("option-invalid-variable", "option-invalid")
def not_a_number(world: World) -> None:
    world.env(PUSHER_STALL_TIMEOUT="soon")
    world.run("run")


@situation("option-invalid-error-code", "option-invalid")
def an_unknown_code(world: World) -> None:
    world.run("errors", "certificate-untrustd")


@situation("reference-malformed")
def upper_case(world: World) -> None:
    world.run("push", "registry.example.com/team/App:1.2")


@situation("reference-malformed-url", "reference-malformed")
def a_url(world: World) -> None:
    world.run("enqueue", world.archive(), "--to", "https://registry.example.com/team/app:1.2")


@situation("job-unknown")
def no_such_job(world: World) -> None:
    world.run("cancel", "7")


@situation("job-state-conflict")
def nothing_to_resume(world: World) -> None:
    world.run("enqueue", world.archive(), "--to", NAME)
    world.run("cancel", "1")
    world.run("pause", "1")


@situation("config-invalid")
def a_mistyped_key(world: World) -> None:
    path = world.file("pusher.toml", 'parallel = 2\nchunksize = "50MiB"\n')
    world.env(PUSHER_CONFIG=str(path))
    world.run("status")


@situation("config-invalid-syntax", "config-invalid")
def no_toml(world: World) -> None:
    world.env(PUSHER_CONFIG=str(world.file("pusher.toml", "parallel: 2\n")))
    world.run("status")


@situation("disk-full")
def a_small_disk(world: World) -> None:
    world.small_disk(30_000, at=world.home / "spool")
    world.push(world.archive(), f"{world.registry().address}/team/app:1.2")


@situation("job-cancelled")
def cancelled_meanwhile(world: World) -> None:
    def cancel(job_push: JobPush) -> None:
        world.run("cancel", "1")
        raise LeaseLost("it was cancelled")

    world.patch.setattr(JobPush, "run", cancel)
    world.push(world.archive(), f"{world.registry().address}/team/app:1.2")


@situation("job-superseded")
def superseded_meanwhile(world: World) -> None:
    to = f"{world.registry().address}/team/app:1.2"

    def enqueue_newer(job_push: JobPush) -> None:
        world.run("enqueue", world.archive(), "--to", to)
        raise LeaseLost("it was superseded")

    world.patch.setattr(JobPush, "run", enqueue_newer)
    world.push(world.archive(), to)


@situation("tag-not-yet")
def the_older_one_is_paused(world: World) -> None:
    to = f"{world.registry().address}/team/app:1.2"
    world.run("enqueue", world.archive(), "--to", to)
    world.run("pause", "1")
    world.push(world.archive(), to, "--no-supersede")


# --- the job store ------------------------------------------------------------------------------------------


@situation("home-unusable")
def a_file_in_the_way(world: World) -> None:
    world.file("pusher/spool", "")
    world.run("run")


@situation("store-unreachable-home", "store-unreachable")
def a_home_below_a_file(world: World) -> None:
    world.env(PUSHER_HOME=str(world.file("notes.txt", "") / "pusher"))
    world.run("run")


@situation("store-corrupt")
def no_database(world: World) -> None:
    world.file("pusher/jobs.db", "this is not a database at all, not at all\n" * 100)
    world.run("status")


@situation("store-locked")
def another_process_writes(world: World) -> None:
    world.run("db", "upgrade")
    world.patch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    hand_in(world.patch, replace(COMMANDS, store_command=0.2))
    with closing(sqlite3.connect(world.home / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        world.run("enqueue", world.archive(), "--to", NAME)


@situation("store-read-only")
def not_ours(world: World) -> None:
    world.run("db", "upgrade")
    world.home.chmod(0o500)
    (world.home / "jobs.db").chmod(0o400)
    with like_any_user():
        world.run("enqueue", world.archive(), "--to", NAME)


@situation("store-too-new")
def written_by_the_next_version(world: World) -> None:
    _set_revision(world, "9999")
    world.run("status")


@situation("store-needs-upgrade")
def written_by_an_old_version(world: World) -> None:
    world.run("db", "upgrade")
    with closing(sqlite3.connect(world.home / "jobs.db")) as database, database:
        database.execute("DELETE FROM alembic_version")
    world.run("db", "check")


def _set_revision(world: World, revision: str) -> None:
    world.run("db", "upgrade")
    with closing(sqlite3.connect(world.home / "jobs.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
        database.execute("UPDATE schema_support SET oldest = ?", [revision])


@situation("store-unreachable")
def no_server(world: World) -> None:
    world.env(PUSHER_DATABASE_URL="postgresql://alice:s3cr3t@127.0.0.1:1/pusher")
    world.run("status")


# --- output -------------------------------------------------------------------------------------------------


@situation("output-unwritable")
def a_full_disk_for_the_output(world: World) -> None:
    world.shell("pusher status --json > /dev/full")


@situation("output-closed", "job-unknown")
def closed_streams(world: World) -> None:
    world.shell("pusher errors >&-")
    world.shell("pusher log 7 >&- 2>&-")


@situation("output-no-stderr", "job-unknown")
def nobody_reads_the_complaints(world: World) -> None:
    world.shell("pusher log 7 2> /dev/full")


# --- for programs -------------------------------------------------------------------------------------------


@situation("json", "job-unknown")
def an_error_for_a_program(world: World) -> None:
    world.run("status", "7", "--json")


@situation("json-command-line", "command-line-invalid")
def a_mistyped_option_for_a_program(world: World) -> None:
    world.run("status", "--json", "--al")


@situation("json-progress", "reference-malformed")
def an_error_before_the_first_event(world: World) -> None:
    world.run("push", "registry.example.com/App", "--progress", "json")


# --- pusher's own faults ------------------------------------------------------------------------------------


@situation("unexpected")
def a_bug(world: World) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("password=s3cr3t")

    world.patch.setattr("pusher.cli.status.store_exists", stumble)
    world.run("status")
    assert "s3cr3t" not in world.last.err


@situation("unexpected-in-a-job", "unexpected")
def a_bug_in_the_worker(world: World) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("password=s3cr3t")

    world.patch.setattr("pusher.worker.job_push.JobPush.run", stumble)
    world.push_archive("registry.example.com")
    assert "s3cr3t" not in world.last.err


# --- serve --------------------------------------------------------------------------------------------------


@situation("listen-failed")
def a_port_in_use(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world.run("serve", "--local", world.folder / "registry", "--listen", f"127.0.0.1:{port}")


@situation("folder-in-use")
def a_second_serve(world: World) -> None:
    with closing(LocalRegistry(world.folder / "registry")):
        world.run("serve", "--local", world.folder / "registry", "--listen", "127.0.0.1:0")


@situation("worker-already-running")
def a_second_worker_in_the_background(world: World) -> None:
    lock = BackgroundLock(world.home)
    lock.acquire()
    world.stack.callback(lock.release)
    world.run("run", "--detach")


@situation("worker-elsewhere")
def a_worker_in_another_container(world: World) -> None:
    lock = BackgroundLock(world.home)
    with pytest.MonkeyPatch.context() as other:
        other.setattr(background, "_machine", lambda: "another boot")
        other.setattr(socket, "gethostname", lambda: "builder")
        lock.acquire()
    world.stack.callback(lock.release)
    world.run("stop")


@situation("option-invalid-listen", "option-invalid")
def open_to_all(world: World) -> None:
    world.run("serve", "--local", world.folder / "registry", "--listen", "0.0.0.0:5055")


@situation("option-invalid-serve-plain", "option-invalid")
def a_password_in_the_clear(world: World) -> None:
    world.run("serve", "--local", world.folder / "r", "--listen", "0.0.0.0:5055", "--username", "alice")


@situation("option-invalid-serve-folder", "option-invalid")
def a_folder_of_something_else(world: World) -> None:
    world.file("photos/cat.jpg", b"cat")
    world.run("serve", "--local", world.folder / "photos")
