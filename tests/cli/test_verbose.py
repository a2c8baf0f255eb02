"""``-v``, ``-vv``, ``--log-json`` and ``--debug``: what is logged, where, and what never is."""

from __future__ import annotations

import base64
import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pusher.cli.verbose import Verbosity, redirect_log
from tests.cli.conftest import Pusher, Result
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.images import make_image, write_archive

USER, PASSWORD = "alice", "correct-horse-battery"
IMAGE = make_image(50_000, compressible=0.0)


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    yield
    Verbosity().start()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    rules = SERVERLESS.scaled(min=1000, max=20_000)
    with FakeRegistry(rules, credentials=(USER, PASSWORD)) as registry:
        yield registry


@pytest.fixture
def push(registry: FakeRegistry, pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``pusher [BEFORE] push ARCHIVE ... [AFTER]``."""
    archive = write_archive(tmp_path / "app.tar", IMAGE)
    monkeypatch.setenv("PUSHER_PASSWORD", PASSWORD)
    monkeypatch.setenv("PUSHER_PARALLEL", "1")  # requests one after the other

    def run(*after: str, before: tuple[str, ...] = ()) -> Result:
        to = f"{registry.address}/app:1"
        quiet = ("--progress", "none", "--username", USER)
        return pusher(*before, "push", str(archive), "--to", to, *quiet, *after)

    return run


def requests_in(text: str) -> list[str]:
    """The methods of the requests that are logged."""
    words = [word for line in text.splitlines() for word in line.split()[1:2]]
    return [word for word in words if word in ("GET", "HEAD", "POST", "PATCH", "PUT")]


def test_without_v_nothing_is_logged(push: Any) -> None:
    result = push()
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(("before", "after"), [(("-v",), ()), ((), ("-v",)), ((), ("--verbose",))])
def test_v_logs_a_line_a_request(
    push: Any, registry: FakeRegistry, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    result = push(*after, before=before)
    assert result.code == 0
    assert requests_in(result.err) == [record.method for record in registry.log]
    assert len(requests_in(result.err)) == len(result.err.splitlines())
    assert "/v2/app/blobs/uploads/" in result.err


def test_vv_logs_headers_too_and_v_may_stand_in_two_places(push: Any) -> None:
    told = push("-v", before=("-v",)).err
    assert len(told.splitlines()) > len(requests_in(told))
    assert "content-range" in told.lower()


def test_the_environment_may_ask_for_it(push: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_VERBOSE", "1")
    assert requests_in(push().err)
    monkeypatch.setenv("PUSHER_VERBOSE", "much")
    assert push().err == ""


def test_log_json_lines_are_objects_with_the_request_in_fields(push: Any, registry: FakeRegistry) -> None:
    lines = [json.loads(line) for line in push("--log-json").err.splitlines()]
    requests = [line for line in lines if line["logger"] == "pusher.http"]
    assert [line["method"] for line in requests] == [record.method for record in registry.log]
    assert {line["type"] for line in lines} == {"log"}
    assert {line["level"] for line in requests} == {"info"}
    assert all(line["status"] and line["url"] and line["at"].endswith("Z") for line in requests)


@pytest.mark.parametrize("command", [("log", "7"), ("pause", "7"), ("move", "7", "--here")])
def test_with_log_json_stderr_holds_nothing_else(pusher: Pusher, command: tuple[str, ...]) -> None:
    result = pusher(*command, "--log-json")
    assert result.code == 2
    (line,) = result.err.splitlines()
    told = json.loads(line)
    assert (told["type"], told["level"], told["code"]) == ("log", "error", "job-unknown")
    assert (told["message"], told["hint"]) == ("there is no job 7", "pusher status --all lists the jobs")


@pytest.mark.parametrize("command", [("bogus",), ("status", "--bogus"), ("push",), ("limit", "2X")])
def test_with_log_json_a_wrong_command_line_is_an_object(pusher: Pusher, command: tuple[str, ...]) -> None:
    result = pusher(*command, "--log-json")
    assert (result.code, [json.loads(line)["level"] for line in result.err.splitlines()]) == (2, ["error"])


@pytest.mark.parametrize("how", [("-vv",), ("-vv", "--log-json")])
def test_no_secret_is_logged(push: Any, registry: FakeRegistry, how: tuple[str, ...]) -> None:
    """Neither the password, in any form, nor what the registry's locations carry."""
    told = push(*how, "--debug").err
    states = {value for r in registry.log for name, value in r.query.items() if name.startswith("_state")}
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert states
    assert told.lower().count("authorization") > 1
    for secret in (PASSWORD, basic, *states):
        assert secret not in told


def test_other_libraries_log_nothing_for_they_quote_what_they_like(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Verbosity(level=2, debug=True).start()
    logging.getLogger("urllib3.connectionpool").warning("Failed to parse headers (url=http://r/?_state=x)")
    assert capsys.readouterr().err == ""


def _stumble() -> None:
    try:
        raise KeyError("s3cr3t")
    except KeyError:
        logging.getLogger("pusher.worker").exception("job 7")


def test_a_traceback_is_logged_for_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    Verbosity(level=2).start()
    _stumble()
    assert capsys.readouterr().err.splitlines()[0].endswith("  job 7")
    Verbosity(level=2).start()
    _stumble()
    assert "s3cr3t" not in capsys.readouterr().err
    Verbosity(debug=True).start()
    _stumble()
    assert "KeyError: 's3cr3t'" in capsys.readouterr().err
    Verbosity(debug=True, log_json=True).start()
    _stumble()
    assert "KeyError" in json.loads(capsys.readouterr().err)["traceback"]


def test_lines_go_to_a_live_display_and_back_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Verbosity(level=1).start()
    shown: list[str] = []
    log = logging.getLogger("pusher.http")
    with redirect_log(shown.append):
        log.info("GET %s", "/v2/")
    log.info("HEAD")
    assert [line.partition("  ")[2] for line in shown] == ["GET /v2/"]
    assert capsys.readouterr().err.endswith("  HEAD\n")


class _Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_stderr_that_nobody_reads_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Verbosity(level=1).start()
    monkeypatch.setattr(sys, "stderr", _Broken())
    with pytest.raises(OSError):
        sys.stderr.write("")
    logging.getLogger("pusher.http").info("GET /v2/")
    monkeypatch.setattr(sys, "stderr", None)
    logging.getLogger("pusher.http").info("GET /v2/")
