"""Hooks: which job they get, what they cannot do to a run, and what is said of one that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.config.settings import HookSettings
from pusher.errors import ExitCode
from pusher.store.records import JobState
from pusher.worker import hook_process, hooks
from pusher.worker.job_json import describe_jobs
from tests.support.fakeregistry import Answer, FakeRegistry, Fault, On
from tests.support.home import Home, cut_off
from tests.support.waiting import PATIENCE, wait_until


def _set(home: Home, **settings: Any) -> None:
    home.settings = replace(home.settings, hooks=HookSettings(**settings))


def _is_alive(process: int) -> bool:
    """Whether the process runs; one that has ended and that nobody waits for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _hook_events(home: Home, job_id: int) -> list[str]:
    return [message for kind, message in home.events(job_id) if kind == "hook"]


def test_a_hook_gets_the_job_as_status_shows_it(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    _set(home, on_success=f"cat > {tmp_path}/job.json", on_failure=f"touch {tmp_path}/failed")
    job = home.push(archive, f"{registry.address}/app:1")
    got = json.loads((tmp_path / "job.json").read_text())
    assert [got] == describe_jobs(home.store, [job], home.settings.workers)
    assert (got["id"], got["state"], got["digest"]) == (job.id, "succeeded", job.digest)
    assert not (tmp_path / "failed").exists()
    assert _hook_events(home, job.id) == []


def test_a_hook_is_run_for_each_end_and_for_no_other(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """A job that failed, is retried and fails again has failed twice; one that is cancelled has not."""
    log = tmp_path / "log"
    _set(home, **{name: f"echo {name} >> {log}" for name in ("on_success", "on_failure", "on_waiting")})
    registry.faults.add(
        Fault(On.PUT_MANIFEST, Answer(400, body=b'{"errors": [{"code": "MANIFEST_INVALID"}]}'), times=2)
    )
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.store.jobs.cancel(home.enqueue(archive, f"{registry.address}/app:2").id)
    for expected in (JobState.FAILED, JobState.FAILED, JobState.SUCCEEDED):
        home.run()
        assert home.state(job.id) == expected
        if expected == JobState.FAILED:
            home.store.jobs.retry(job.id)
    home.run()
    assert log.read_text().split() == ["on_failure", "on_failure", "on_success"]


def test_on_waiting_is_run_once_for_a_long_outage(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = f"cat >> {log}; echo , >> {log}"
    _set(home, on_waiting=command, waiting_after=3600)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    assert not log.exists(), "the wait was too short"
    _set(home, on_waiting=command, waiting_after=0.01)
    registry.stop()
    for _ in range(3):  # over several runs, as cron starts them
        home.run(give_up_after=0.1)
    (said,) = json.loads(f"[{log.read_text().rstrip().rstrip(',')}]")
    assert (said["id"], said["state"], said["error"]["retry"]) == (job.id, "waiting", "offline")
    assert said["waiting_since"] < said["next_try_at"]
    registry.start()
    assert home.run().exit_code == ExitCode.DONE
    assert home.job(job.id).waiting_since is None


def test_on_waiting_is_run_at_once_for_what_the_user_must_do(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """A paused job that must set the tag first."""
    _set(home, on_waiting=f"cat > {tmp_path}/job.json")
    older = home.enqueue(archive, f"{registry.address}/app:1")
    home.store.jobs.pause(older.id)
    newer = home.enqueue(archive, f"{registry.address}/app:1", keeps_older=True)
    assert home.run().exit_code == ExitCode.UNFINISHED
    said = json.loads((tmp_path / "job.json").read_text())
    assert (said["id"], said["error"]["code"]) == (newer.id, "tag-not-yet")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo out; echo oh no >&2; exit 3", "on_success ended with exit code 3: out oh no"),
        ("exit 4", "on_success ended with exit code 4"),
        ("kill -TERM $$", "on_success was ended by signal 15"),
        (
            "printf '\\033[2J\\nbad \\377\\342\\200\\256'; exit 1",
            "\\x1b[2J bad \N{REPLACEMENT CHARACTER}\\u202e",
        ),
        ("/no/such/program", "on_success ended with exit code 127: "),
        ("echo begun; exec sleep 600", "on_success was ended, because it ran for longer than 2s: begun"),
        ("trap '' TERM; echo deaf; while :; do sleep 600; done", "ran for longer than 2s: deaf"),
        ("yes; exit 3", "on_success was ended, because it ran for longer than 2s: y y y"),
    ],
)
def test_a_hook_that_fails_is_an_event_and_nothing_else(
    home: Home,
    registry: FakeRegistry,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    expected: str,
) -> None:
    monkeypatch.setattr(hook_process, "_KILL_AFTER", 0.2)
    _set(home, on_success=command, timeout=2.0 if "for longer than 2s" in expected else PATIENCE)
    job = home.push(archive, f"{registry.address}/app:1")
    (said,) = _hook_events(home, job.id)
    assert expected in said
    assert len(said) <= 500
    assert said.isprintable()
    assert home.progress.of("note") == []


def test_a_hook_need_not_read_the_job(home: Home, registry: FakeRegistry, archive: Path) -> None:
    """Whatever the size of it is."""
    _set(home, on_success="exec <&-; exec sleep 0.1")
    job = home.push(archive, f"{registry.address}/app:1")
    assert _hook_events(home, job.id) == []
    for command in ("exit 0", "exec sleep 0.1", "cat > /dev/null"):
        end = hook_process.HookProcess(command, bytes(10_000_000), os.environ).run(PATIENCE)
        assert (end.exit_code, end.output) == (0, b"")


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    command = f"sleep 600 & echo $! > {tmp_path}/process; echo started"
    end = hook_process.HookProcess(command, b"{}", os.environ).run(600)
    assert (end.exit_code, end.output) == (0, b"started\n")
    assert time.monotonic() - began < PATIENCE
    process = int((tmp_path / "process").read_text())
    assert _is_alive(process)
    os.kill(process, signal.SIGKILL)


def test_the_children_of_a_hook_end_with_it(tmp_path: Path) -> None:
    command = f"sleep 600 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/process; wait"
    limit = 0.5
    while not (tmp_path / "process").exists():  # it may take so long to start
        end = hook_process.HookProcess(command, b"{}", os.environ).run(limit)
        assert end.exit_code is None
        limit *= 3
    wait_until(lambda: not _is_alive(int((tmp_path / "process").read_text())))


def test_a_hook_has_no_secret_and_knows_the_home(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = dict.fromkeys(("PUSHER_PASSWORD", "PGPASSWORD", "GITHUB_TOKEN", "MY_PASSWORD"), "hunter2")
    kept = {"PUSHER_HOME": "/h", "PUSHER_CONFIG": "/c", "SMTP_SERVER": "mail.example"}
    for name, value in {**secrets, **kept}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PUSHER_DATABASE_URL", "postgresql://bob:hunter2@db.example/pusher")
    _set(home, on_success=f"env > {tmp_path}/env")
    home.push(archive, f"{registry.address}/app:1")
    lines = (tmp_path / "env").read_text().splitlines()
    assert "hunter2" not in "".join(lines)
    assert {f"{name}={value}" for name, value in kept.items()} <= set(lines)


def test_a_slow_hook_holds_up_no_job(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """The hook of the first job waits until the second one is pushed."""
    _set(home, on_success=f"until [ -e {tmp_path}/2 ]; do sleep 0.05; done; echo >> {tmp_path}/log")
    home.progress.hooks["job_ended"] = lambda job_id, *_: (tmp_path / str(job_id)).touch()
    for tag in "12":
        home.enqueue(archive, f"{registry.address}/app:{tag}")
    result = home.run(parallel=1)
    assert (result.exit_code, len(result.succeeded)) == (ExitCode.DONE, 2)
    assert (tmp_path / "log").read_text() == "\n\n"
    assert _hook_events(home, 1) == _hook_events(home, 2) == []


def test_a_run_that_is_asked_to_stop_ends_its_hooks(
    home: Home, monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """After some seconds, and says of each job what became of its hook."""
    monkeypatch.setattr(hooks, "_STOPPING", 0.3)
    jobs = [home.enqueue(archive, f"{registry.address}/app:{tag}") for tag in "12"]
    command = f"echo $$ > {tmp_path}/process; sleep 600"
    ours = hooks.Hooks(
        HookSettings(on_failure=command), home.store, home.settings.workers, home.progress.note
    )
    for job in jobs:
        ours.run_failure(job)
    ours.close(lambda: (tmp_path / "process").exists())
    assert _hook_events(home, 1) == ["on_failure was ended, because the worker was stopped"]
    assert _hook_events(home, 2) == ["on_failure was not run, because the worker was stopped"]
    assert home.progress.of("note") == [("waiting up to 0s for the hook on_failure of job 1",)]
    wait_until(lambda: not _is_alive(int((tmp_path / "process").read_text())))


def test_a_run_that_waits_long_for_a_hook_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry, archive: Path
) -> None:
    monkeypatch.setattr(hooks, "NOTICE_AFTER", 0.2)
    _set(home, on_success="sleep 1")
    home.push(archive, f"{registry.address}/app:1")
    assert home.progress.of("note") == [("waiting up to 30s for the hook on_success of job 1",)]


def test_a_run_ends_whatever_a_hook_fails_with(
    home: Home, monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry, archive: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cannot start a process")

    _set(home, on_success="exit 0")
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with monkeypatch.context() as failing:
        failing.setattr(subprocess, "Popen", fail)
        assert home.run().exit_code == ExitCode.DONE
    assert _hook_events(home, job.id) == ["on_success could not be started: cannot start a process"]


def test_a_job_that_is_gone_has_no_hook(home: Home, registry: FakeRegistry, archive: Path) -> None:
    job = home.push(archive, f"{registry.address}/app:1")
    home.store.retention.prune(home.store.now().replace(year=9999))
    ours = hooks.Hooks(HookSettings(on_success="exit 1"), home.store, home.settings.workers, print)
    ours.run_success(job)
    ours.close(lambda: False)
