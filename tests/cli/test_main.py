"""The group: help, start-up, what becomes of exceptions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from pusher import __version__
from pusher.cli import app
from pusher.cli.command import Command
from pusher.errors import CredentialsRejected, StoreLocked
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive

COMMANDS = [
    *(
        "push",
        "enqueue",
        "run",
        "stop",
        "wait",
        "serve",
        "status",
        "workers",
        "move",
        "pause",
        "resume",
        "cancel",
        "retry",
        "priority",
    ),
    *(
        "limit",
        "parallel",
        "log",
        "login",
        "logout",
        "doctor",
        "registry",
        "config",
        "prune",
        "db",
        "errors",
        "completion",
        "demo",
    ),
    "help",
]
HEAVY = ["requests", "sqlalchemy", "alembic", "rich", "filelock", "isal", "urllib3", "platformdirs"]
HEAVY += ["starlette", "uvicorn", "httptools", "uvloop", "sqlite3", "prometheus_client"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["push", "--help"], ["db", "upgrade", "-h"], ["bogus"]]
)
def test_what_needs_no_library_imports_none(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom pusher.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_start_without_jobs_needs_no_database(pusher: Pusher, home: Path) -> None:
    result = pusher()
    assert result.code == 0
    assert result.out == (
        "pusher push registry.example.com/team/app:1.2    push an image from Docker\n"
        "pusher enqueue IMAGE, then pusher run            push several; run again to resume\n"
        "pusher status                                    show what is done and what is left\n"
    )
    assert result.err == ""
    assert not home.exists()


def test_alone_it_shows_the_jobs(pusher: Pusher, store: Store) -> None:
    assert len(pusher().out.splitlines()) == 3
    add_job(store)
    result = pusher()
    assert result.out.startswith("ID  STATE") or result.out.startswith("ID  IMAGE")
    assert "app:1.2" in result.out


def test_version(pusher: Pusher) -> None:
    assert pusher("--version").out == f"pusher {__version__}\n"


@pytest.mark.parametrize(
    "command", [[], *[[name] for name in COMMANDS], ["db", "upgrade"], ["db", "check"]], ids=" ".join
)
def test_every_help_has_an_example_and_fits(pusher: Pusher, command: list[str]) -> None:
    result = pusher(*command, "--help")
    assert result.code == 0
    assert "Example:\n    " in result.out
    assert "--debug" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80
    assert not re.search(r"[a-z0-9,:]\.\.\.", result.out)  # nothing is cut off


def test_the_help_lists_every_command_and_exit_code(pusher: Pusher) -> None:
    out = pusher("--help").out
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    assert listed == COMMANDS
    for code in ("0 done", "5 unfinished", "129 and up: ended by a signal"):
        assert code in out


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["bogus"], "no such command 'bogus'", "pusher --help"),
        (["--xyz"], "no such option '--xyz'", "pusher --help"),
        (["--debugg"], "no such option '--debugg'", "did you mean '--debug'? See also: pusher --help"),
        (
            ["push"],
            "missing argument 'IMAGE'",
            "usage: pusher push [OPTIONS] IMAGE...; see also: pusher push --help",
        ),
        (["status", "--xyz"], "no such option '--xyz'", "pusher status --help"),
        (["db"], "missing command", "pusher db --help"),
    ],
)
def test_what_click_refuses(pusher: Pusher, arguments: list[str], sentence: str, hint: str) -> None:
    result = pusher(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {sentence}")
    assert result.err.endswith(f"\n  hint: {hint}\n")
    assert len(result.err.splitlines()) == 2


NINES = "9" * 30


@pytest.mark.parametrize(
    ("arguments", "err"),
    [
        (
            ["run", "--parallel", "many"],
            "error: --parallel is 'many'\n  hint: write a whole number from 1 to 64\n",
        ),
        (
            ["run", "--chunk-size", "huge"],
            (
                "error: --chunk-size is 'huge', which is not a size\n"
                "  hint: write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)\n"
            ),
        ),
        (
            ["prune", "--spool-limit", "-1"],
            (
                "error: --spool-limit is '-1', which is not a size\n"
                "  hint: write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)\n"
            ),
        ),
        (
            ["push", "a/App"],
            (
                "error: 'a/App' is not an image reference: its repository has upper-case letters in 'App'\n"
                "  hint: write it in lower case: a/app\n"
            ),
        ),
        (
            ["enqueue", "app:1", "--to", "https://registry.example.com/app:1"],
            (
                "error: 'https://registry.example.com/app:1' is not an image reference: it begins with https://\n"
                "  hint: write it without: registry.example.com/app:1\n"
            ),
        ),
        (
            ["log", "x"],
            "error: 'x' is not a job ID\n  hint: pusher status lists the jobs\n",
        ),
        (["log", "7"], "error: there is no job 7\n  hint: pusher status --all lists the jobs\n"),
        (["status", "7"], "error: there is no job 7\n  hint: pusher status --all lists the jobs\n"),
        (
            ["pause", NINES],
            f"error: '{NINES}' is not a job ID\n  hint: pusher status lists the jobs\n",
        ),
    ],
)
def test_bad_usage(pusher: Pusher, arguments: list[str], err: str) -> None:
    result = pusher(*arguments)
    assert (result.code, result.out, result.err) == (2, "", err)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Add a command ``trouble`` that raises what it is given."""

    def install(error: BaseException) -> None:
        def trouble() -> None:
            raise error

        monkeypatch.setitem(app.cli.commands, "trouble", Command("trouble", callback=trouble))

    return install


def test_an_error_is_a_sentence_a_hint_and_an_exit_code(
    pusher: Pusher, failing: Callable[[BaseException], None]
) -> None:
    failing(CredentialsRejected("r.example rejects the password", hint="docker login r.example\nand again"))
    result = pusher("trouble")
    assert result.code == 4
    assert (
        result.err
        == "error: r.example rejects the password\n  hint: docker login r.example\n        and again\n"
    )


def test_an_error_without_a_hint_of_its_own(pusher: Pusher, failing: Callable[[BaseException], None]) -> None:
    failing(StoreLocked("the job store is locked"))
    assert pusher("trouble").err == "error: the job store is locked\n  hint: run the command again\n"


def test_an_unexpected_exception_is_one_line_and_quotes_nothing(
    pusher: Pusher, failing: Callable[[BaseException], None]
) -> None:
    failing(KeyError("password=hunter2"))
    result = pusher("trouble")
    assert result.code == 1
    first, second = result.err.splitlines()
    assert first.startswith("error: this is a bug in pusher: KeyError in pusher/cli/app.py, line ")
    assert second.startswith("  hint: nothing is lost; run the command again with --debug")
    assert "hunter2" not in result.err


def test_debug_shows_the_traceback(
    pusher: Pusher, failing: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(KeyError("what it was"))
    result = pusher("trouble", "--debug")
    assert "Traceback (most recent call last)" in result.err
    assert "what it was" in result.err
    monkeypatch.setenv("PUSHER_DEBUG", "1")
    assert "Traceback" in pusher("trouble").err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_quiet(
    pusher: Pusher, failing: Callable[[BaseException], None], error: BaseException
) -> None:
    failing(error)
    result = pusher("trouble")
    assert (result.code, result.err.strip()) == (130, "")


def test_a_reader_that_has_enough(store: Store, home: Path) -> None:
    for _ in range(50):
        add_job(store)
    command = f"{sys.executable} -m pusher status --json --all | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_reader_that_left_changes_nothing_about_a_push(home: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(300, names=("team/app:1",)))
    with FakeRegistry(DISTRIBUTION_3) as registry:
        reader, writer = os.pipe()
        os.close(reader)
        command = ["push", str(archive), "--to", registry.address]
        done = subprocess.run(
            [sys.executable, "-m", "pusher", *command], stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
        os.close(writer)
    assert (done.returncode, b"rror" in done.stderr) == (0, False), done.stderr


def test_a_ca_certificate_that_is_not_there_is_reported_for_plain_http_too(
    pusher: Pusher, home: Path, tmp_path: Path
) -> None:
    result = pusher("run", "--plain-http", "--ca-cert", str(tmp_path / "gone.pem"))
    assert result.code != 0
    assert "gone.pem does not exist" in result.err


def test_the_job_store_cannot_be_opened(pusher: Pusher, home: Path) -> None:
    home.mkdir()
    (home / "jobs.db").write_bytes(b"this is not a database at all, not at all" * 100)
    result = pusher("status")
    assert result.code == 8
    assert result.err.startswith("error: ")
    assert str(home / "jobs.db") in result.err
    assert "Traceback" not in result.err
