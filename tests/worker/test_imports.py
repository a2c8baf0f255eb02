"""Which packages the commands import that run all day: imports are most of the time that they take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fakeregistry.server import FakeRegistry
from tests.support.waiting import PATIENCE

_LIST = """
import sys
before = {name.partition(".")[0] for name in sys.modules}  # what an environment loads by itself
from pusher.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
found = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(*(found - sys.stdlib_module_names - before), file=sys.stderr)
"""
_NOT_OURS = {"pusher"}
_STATUS = {"click", "platformdirs"}
_REQUESTS = {"requests", "urllib3", "certifi", "charset_normalizer", "idna"}
_NOTHING_NEW = {*_STATUS, *_REQUESTS, "filelock", "truststore"}
_PUSH = {*_NOTHING_NEW, "deflate", "isal", "zstandard"}


_DIAL = """
import sys
from pusher.cli import main
from pusher.registry.http import happy_eyeballs
def dial(host, port, timeout, count):
    found = sorted({"requests", "urllib3", "ssl", "sqlite3"} & set(sys.modules))
    print(f"{host}:{port}", *found, file=sys.stderr)
happy_eyeballs.dial_early = dial
main(sys.argv[1:])
"""
"""Prints what is loaded when the first connections are begun."""


def imported(*arguments: str) -> set[str]:
    """The packages that a command imports, without Python's own."""
    command = [sys.executable, "-c", _LIST, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return {name for name in done.stderr.splitlines()[-1].split() if not name.startswith("__")} - _NOT_OURS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUSHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "home"


def test_what_is_imported(registry: FakeRegistry, archive: Path) -> None:
    """The first push creates the job store."""
    assert imported("--help") == {"click"}
    push = ("push", f"docker-archive:{archive}", "--to", f"{registry.address}/app:1", "--progress", "none")
    assert imported(*push) <= _PUSH  # the first one
    assert imported(*push) <= _NOTHING_NEW
    assert imported("status") == imported("status", "--json") == _STATUS


def modules_of_push(registry: FakeRegistry, archive: Path) -> set[str]:
    """The modules that a push loads."""
    program = _LIST.replace("found - sys.stdlib_module_names - before", "sys.modules")
    command = [sys.executable, "-c", program, "push", f"docker-archive:{archive}"]
    command += ["--to", f"{registry.address}/app:1", "--progress", "none"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=os.environ
    )
    return set(done.stderr.splitlines()[-1].split())


def test_a_push_with_nothing_new_loads_nothing_that_sends(registry: FakeRegistry, archive: Path) -> None:
    sending = {
        "pusher.registry.upload.upload",
        "pusher.spool.coders",
        "pusher.spool.pipeline",
        "pusher.worker.docker_blobs",
        "pusher.worker.preparation_run",
        "pusher.worker.upload_run",
    }
    first = modules_of_push(registry, archive)
    assert first >= sending
    second = modules_of_push(registry, archive)
    assert second.isdisjoint(sending)
    assert len(second) < len(first) - 20


def test_a_push_imports_one_source(registry: FakeRegistry, archive: Path) -> None:
    modules = modules_of_push(registry, archive)
    assert "pusher.sources.archive.docker_archive" in modules
    others = (
        "oci",
        "docker_dir",
        "engine.save",
        "engine.content_store",
        "engine.disk.source",
        "split.source",
    )
    assert modules.isdisjoint(f"pusher.sources.{name}" for name in others)


def test_a_push_connects_before_it_loads_what_sends_requests(tmp_path: Path) -> None:
    """To the registry that it reads from, too."""
    push = ("push", "docker://127.0.0.1:9/app:1", "--to", "127.0.0.2:9/app:1", "--progress", "none")
    command = [sys.executable, "-c", _DIAL, *push]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert sorted(done.stderr.splitlines()[:2]) == ["127.0.0.1:9", "127.0.0.2:9"], done.stderr
