"""``pusher doctor``: its lines, its JSON, its exit code, and what it shows on a terminal meanwhile."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import CredentialsRejected
from pusher.store.store import Store
from tests.cli.conftest import Pusher, Result, add_job
from tests.doctor.diagnosis import EVERY, Registry, stay_here
from tests.registry.sites import Site
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, Fault, On, Stall
from tests.support.images import make_image, write_archive

LOGIN = ("ann", "the-secret-password")


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3, credentials=LOGIN) as running:
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "app.tar", make_image(300, names=()))


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_USERNAME", LOGIN[0])
    monkeypatch.setenv("PUSHER_PASSWORD", LOGIN[1])


def results(result: Result) -> dict[str, str]:
    """Result by name, of output for people."""
    found = re.findall(r"^(PASSED|FAILED|SKIPPED) +(\w+(?: \w+)?)(?:  +| )", result.out, re.MULTILINE)
    return {name: outcome for outcome, name in found}


@pytest.mark.usefixtures("login")
def test_one_line_a_check(pusher: Pusher, registry: FakeRegistry, archive: Path) -> None:
    result = pusher("doctor", str(archive), "--to", f"{registry.address}/team/app:1.2")
    assert (result.code, result.err) == (0, "No problems found; 1 check was skipped.\n")
    lines = result.out.splitlines()
    assert len(lines) == len(EVERY)
    for name, line in zip(EVERY, lines, strict=True):
        assert re.match(rf"(PASSED |SKIPPED) {name:11} \S", line)
    assert LOGIN[1] not in result.out
    assert "\x1b" not in result.out


def test_json(pusher: Pusher, registry: FakeRegistry, archive: Path) -> None:
    to = f"{registry.address}/team/app:1.2"
    result = pusher("doctor", str(archive), "--to", to, "--json")
    document = json.loads(result.out)
    assert (result.code, result.err) == (4, "")
    assert (document["target"], document["passed"]) == (str(archive), False)
    assert [check["name"] for check in document["checks"]] == list(EVERY)
    (failed,) = [check for check in document["checks"] if check["result"] == "FAILED"]
    assert failed["name"] == "login"
    assert failed["code"] == "credentials-missing"
    assert failed["registry"] == registry.address
    assert "pusher login" in failed["hint"]
    for check in document["checks"]:
        assert set(check) == {"name", "result", "message", "hint", "code", "registry"}
        assert (check["code"] is None) == (check["result"] != "FAILED")


def test_the_exit_code_is_that_of_the_first_failure(pusher: Pusher, tmp_path: Path) -> None:
    with Site(Registry()) as site:
        closed = site.address
    result = pusher("doctor", str(tmp_path / "missing.tar"), "--to", f"{closed}/app:1")
    assert result.code == 7
    assert {name for name, outcome in results(result).items() if outcome == "FAILED"} == {"image", "TCP"}
    assert result.err == "2 of 17 checks failed: image, TCP.\n"
    assert pusher("doctor", f"{closed}/app").code == 5
    assert pusher("doctor", "localhost:5000/APP:1").code == 2


def test_a_failed_line_alone_says_what_to_do(
    pusher: Pusher, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_PASSWORD", "not-the-one")
    result = pusher("doctor", f"{registry.address}/team/app", "--username", "ann")
    assert result.code == CredentialsRejected.exit_code
    line = next(line for line in result.out.splitlines() if line.startswith("FAILED"))
    assert "ann" in line
    assert "; next: " in line


def test_a_password_that_does_not_come(pusher: Pusher, registry: FakeRegistry) -> None:
    result = pusher("doctor", f"{registry.address}/team/app", "--username", "ann")
    assert results(result)["credential"] == "FAILED"
    assert "no password for 'ann'" in result.out
    assert result.code == 4


# --- broken settings --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("login")
def test_a_broken_file_of_settings(
    pusher: Pusher, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pusher.toml"
    file.write_text("this is = = no TOML\n")
    monkeypatch.setenv("PUSHER_CONFIG", str(file))
    result = pusher("doctor", f"{registry.address}/team/app")
    found = results(result)
    assert [name for name, outcome in found.items() if outcome == "FAILED"] == ["config"]
    assert [name for name, outcome in found.items() if outcome == "SKIPPED"] == ["image", "TLS"]
    assert str(file) in result.out.splitlines()[0]
    assert result.code == 2


def test_a_broken_variable(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("PUSHER_PARALLEL", "many")
    result = pusher("doctor")
    assert results(result)["config"] == "FAILED"
    assert "PUSHER_PARALLEL is 'many'" in result.out.splitlines()[0]
    assert str(home) in result.out


def test_a_flag_that_makes_no_sense_ends_it(pusher: Pusher) -> None:
    result = pusher("doctor", "--chunk-size", "huge")
    assert (result.code, result.out) == (2, "")
    assert "--chunk-size" in result.err


# --- without an argument ----------------------------------------------------------------------------------


def test_this_machine_alone(pusher: Pusher, home: Path) -> None:
    result = pusher("doctor")
    assert result.code == 0
    assert results(result) == {
        "config": "PASSED",
        "reference": "SKIPPED",
        "image": "SKIPPED",
        "job store": "PASSED",
        "disk": "PASSED",
    }
    assert not home.exists()


def test_jobs_bring_their_registry(pusher: Pusher, store: Store) -> None:
    with Site(Registry()) as site:
        add_job(store, "team/app:1", registry=site.address)
        result = pusher("doctor")
    assert result.code == 0
    assert f"{site.address}:" in result.out.splitlines()
    assert results(result)["push"] == "PASSED"


# --- on a terminal ----------------------------------------------------------------------------------------


def on_a_terminal(*arguments: str, columns: int = 80, **environ: str) -> str:
    """What a terminal of that width receives."""
    main, terminal = pty.openpty()
    surroundings = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "pusher", "doctor", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={name: value for name, value in surroundings.items() if value},
    )
    os.close(terminal)
    received = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not block:
            break
        received += block
    os.close(main)
    process.wait(60)
    return received.decode()


def shown(received: str) -> list[str]:
    """The lines that stay on the screen."""
    text = re.sub(r"[^\n]*\r\x1b\[2K", "", received.replace("\r\n", "\n"))
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_it_fits_the_terminal_and_wraps_below_its_column(home: Path, registry: FakeRegistry) -> None:
    received = on_a_terminal(f"{registry.address}/team/app", PUSHER_HOME=str(home))
    lines = shown(received)
    for line in lines:  # but for what is there to be copied
        assert len(line) <= 80 or len(line[20:].split()) == 1
    assert {line[:8].strip() for line in lines if not line.startswith(" ")} >= {"PASSED", "FAILED"}
    assert any(line.startswith(" " * 20 + "next: pusher login") for line in lines)
    assert "\x1b[2m...     DNS         asking for the address" in received


def test_colours(home: Path) -> None:
    assert "\x1b[32mPASSED" in on_a_terminal(PUSHER_HOME=str(home), NO_COLOR="")
    assert "\x1b[32m" not in on_a_terminal(PUSHER_HOME=str(home), NO_COLOR="1")


def test_a_terminal_without_unicode(home: Path, tmp_path: Path) -> None:
    received = on_a_terminal(
        str(tmp_path / "größe.tar"),
        "--to",
        "localhost:1/app:1",
        PUSHER_HOME=str(home),
        PYTHONIOENCODING="ascii",
    )
    assert "gr\\xf6\\xdfe.tar" in received
    assert "bug" not in received


def test_a_check_that_hangs_is_seen(home: Path, registry: FakeRegistry) -> None:
    registry.faults.add(Fault(On.PING, Stall(), times=None))
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pusher", "doctor", f"{registry.address}/team/app"],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "PUSHER_HOME": str(home)},
    )
    os.close(terminal)
    received = b""
    while b"...     TLS" not in received:
        received += os.read(main, 65536)
    process.terminate()
    process.wait(60)
    os.close(main)
