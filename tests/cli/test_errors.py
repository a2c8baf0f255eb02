"""``pusher errors``, errors for programs, and output that cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.errors.catalogue import catalogue
from pusher.store.records import JobState, StoredError
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job, claim
from tests.support.fakeregistry import DISTRIBUTION_3, Answer, FakeRegistry, Fault, On
from tests.support.images import make_image, write_archive

# --- the command --------------------------------------------------------------------------------------------


def test_it_lists_every_error_on_a_line_of_its_own(pusher: Pusher) -> None:
    result = pusher("errors")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue())
    assert all(
        line.endswith(f"  {entry.meaning}") for line, entry in zip(lines, catalogue().values(), strict=True)
    )


def test_it_explains_one(pusher: Pusher) -> None:
    assert pusher("errors", "registry-busy").out == (
        "registry-busy: The registry asked for a pause (429 or 503).\n"
        "  what to do:          pusher waits as long as the registry asks, then continues\n"
        "  exit code:           5\n"
        "  trying again helps:  yes, after a pause\n"
    )


def test_it_is_there_for_programs(pusher: Pusher) -> None:
    whole = json.loads(pusher("errors", "--json").out)["errors"]
    assert [entry["code"] for entry in whole] == list(catalogue())
    (one,) = json.loads(pusher("errors", "job-unknown", "--json").out)["errors"]
    assert one == {
        "code": "job-unknown",
        "meaning": "There is no job with this ID.",
        "advice": "pusher status --all lists the jobs",
        "exit_code": 2,
        "retry": "never",
    }


# --- for programs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "7", "--json"],
        ["log", "7", "--json"],
        ["config", "--json", "--bogus"],
        ["status", "--json", "--bogus"],
        ["errors", "bogus", "--json"],
    ],
    ids=" ".join,
)
def test_a_command_that_was_asked_for_json_gives_its_error_in_json(
    pusher: Pusher, store: Store, arguments: list[str]
) -> None:
    result = pusher(*arguments)
    told = json.loads(result.out)["error"]
    assert told.keys() == {"code", "message", "hint", "exit_code", "retry"}
    assert told["exit_code"] == result.code == 2
    assert catalogue()[told["code"]].exit_code == 2
    assert result.err == f"error: {told['message']}\n  hint: {told['hint']}\n"


@pytest.mark.parametrize("how", [["--progress", "json"], ["--progress=json"]])
def test_the_last_json_line_is_the_result_whatever_happens(pusher: Pusher, how: list[str]) -> None:
    result = pusher("push", "a/App", *how)
    told = json.loads(result.out.splitlines()[-1])
    assert (told["type"], told["exit_code"], told["jobs"]) == ("result", 2, [])
    assert told["error"]["code"] == "reference-malformed"


def test_a_job_carries_its_error_wherever_it_is_shown(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_job(store)
    error = StoredError("registry-busy", "it is busy", "wait")
    monkeypatch.setenv("PUSHER_GIVE_UP_AFTER", "0.01")
    store.jobs.release(
        claim(store, job), state=JobState.WAITING, next_try_at=store.now(), error=error, attempt=True
    )
    shown = json.loads(pusher("status", "--json").out)["jobs"][0]["error"]
    assert shown == {
        "code": "registry-busy",
        "message": "it is busy",
        "hint": "wait",
        "exit_code": 5,
        "retry": "backoff",
    }


def test_without_json_stdout_stays_empty(pusher: Pusher) -> None:
    assert pusher("status", "7").out == ""


# --- output that cannot be written --------------------------------------------------------------------------


def _shell(script: str) -> subprocess.CompletedProcess[str]:
    script = script.replace("pusher", f"{sys.executable} -m pusher")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
@pytest.mark.parametrize("arguments", ["errors", "errors --json", "status --json", "--version"])
def test_a_full_disk_for_the_output_is_an_error_and_no_traceback(
    home: Path, arguments: str, unbuffered: str
) -> None:
    done = _shell(f"{unbuffered}pusher {arguments} > /dev/full")
    assert done.returncode == ExitCode.UNEXPECTED
    assert done.stderr.splitlines()[0] == "error: standard output cannot be written: No space left on device"
    assert len(done.stderr.splitlines()) == 2


def test_a_closed_standard_output_is_an_error_where_something_is_written_to_it(home: Path) -> None:
    done = _shell("pusher status --json >&- <&-")
    assert done.returncode == ExitCode.UNEXPECTED
    assert done.stderr.splitlines()[0] == "error: standard output is closed"
    assert _shell("pusher limit off >&-").returncode == 0


@pytest.mark.parametrize("output", ["--json", "--progress json"])
def test_jobs_end_as_they_do_whatever_becomes_of_the_output(home: Path, tmp_path: Path, output: str) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(300, names=("team/app:1",)))
    digests = tmp_path / "digests"
    with FakeRegistry(DISTRIBUTION_3) as registry:
        to = f"--to {registry.address} --plain-http {output} --digest-file {digests}"
        push = f"pusher push {archive} {to}"
        done = _shell(f"{push} >/dev/full")
        assert done.returncode == ExitCode.UNEXPECTED
        assert done.stderr.splitlines()[-2] == (
            "error: standard output cannot be written: No space left on device"
        )
        assert digests.read_text().startswith("sha256:")
        done = _shell(f"{push.removesuffix(str(digests))}/dev/full >/dev/null")
        assert done.returncode == ExitCode.UNEXPECTED
        assert done.stderr.splitlines()[-2] == (
            "error: --digest-file: /dev/full cannot be written: No space left on device"
        )
        digests.unlink()
        assert _shell(f"{push} >&-").returncode == 0
        assert digests.read_text().startswith("sha256:")
        denied = Answer(403, body=b'{"errors": [{"code": "DENIED"}]}')
        registry.faults.add(Fault(On.PUT_MANIFEST, denied, times=None))
        done = _shell(f"{push} --tag 2 >/dev/full")
        assert done.returncode == ExitCode.AUTH
        assert "error: standard output cannot be written: No space left on device" in done.stderr


def test_a_job_is_queued_whatever_becomes_of_its_id(home: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(300, names=("team/app:1",)))
    for to, code in (("&-", 0), ("/dev/full", 1)):
        done = _shell(f"pusher enqueue {archive} --to r.example >{to}")
        assert done.returncode == code
        assert f"{archive} -> r.example/team/app:1, 1 layer." in done.stderr


def test_the_exit_code_survives_a_stderr_that_cannot_be_written(home: Path) -> None:
    for where in ("/dev/full", "&-"):
        done = _shell(f"pusher log 7 2>{where}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_an_error_for_a_program_that_cannot_be_written_is_told_to_people(home: Path) -> None:
    done = _shell("pusher errors bogus --json > /dev/full")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "error: there is no error 'bogus'\n  hint: pusher errors lists all errors\n"
