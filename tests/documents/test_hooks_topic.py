"""The hooks of the topic do what it says, with real jq and curl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pusher.config.load import load
from pusher.help.markdown import Code, Table, parse
from pusher.help.topics import read_topic
from pusher.worker.job_json import describe_jobs
from tests.support.fakeregistry import DISTRIBUTION_3, Answer, FakeRegistry, Fault, On
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.real import require
from tests.support.waiting import PATIENCE

TOPIC = read_topic("hooks")
TOML = [
    "\n".join(block.lines) for block in TOPIC.blocks if isinstance(block, Code) and block.language == "toml"
]
NOTIFICATION, WEBHOOK, MAIL, LIMITS = TOML


class Webhook(BaseHTTPRequestHandler):
    """Keeps what was posted."""

    posted: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, self.headers["Content-Type"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[type[Webhook]]:
    """A server, and the file of its address where the topic has it."""
    kept = type("Kept", (Webhook,), {"posted": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kept) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        (text,) = (b for b in TOPIC.blocks if isinstance(b, Code) and b.language == "ini")
        file = Path.home() / ".config" / "pusher" / "webhook"
        file.parent.mkdir(parents=True)
        address = f"http://127.0.0.1:{server.server_port}"
        file.write_text("\n".join(text.lines).replace("https://chat.example.com", address))
        yield kept
        server.shutdown()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``notify-send`` and ``mail``, which keep their arguments and what they read."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("notify-send", "mail"):
        said = tmp_path / name
        (folder / name).write_text(
            f"""#!/bin/sh\nprintf '%s\\n' "$@" > {said}; [ {name} = mail ] && cat >> {said}; exit 0\n"""
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path


def _push(folder: Path, text: str, *, fails: bool) -> str:
    """Run ``pusher push`` with this file of settings; the destination."""
    require("jq", "curl")
    (folder / "pusher.toml").write_text(text)
    archive = write_archive(folder / "app.tar", make_image(3_000))
    environ = {
        **os.environ,
        "PUSHER_HOME": str(folder / "home"),
        "PUSHER_CONFIG": str(folder / "pusher.toml"),
    }
    with FakeRegistry(DISTRIBUTION_3) as registry:
        if fails:
            refusal = Answer(400, body=b'{"errors": [{"code": "MANIFEST_INVALID", "message": "no"}]}')
            registry.faults.add(Fault(On.PUT_MANIFEST, refusal))
        place = f"{registry.address}/team/app:1.2"
        command = [sys.executable, "-m", "pusher", "push", str(archive), "--to", place]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
        log = [sys.executable, "-m", "pusher", "log", "1"]
        events = subprocess.run(log, env=environ, capture_output=True, text=True, timeout=PATIENCE).stdout
    assert done.returncode == (6 if fails else 0), done.stderr
    assert "  hook  " not in events
    return place


@pytest.mark.parametrize("fails", [False, True])
def test_a_notification(programs: Path, fails: bool) -> None:
    place = _push(programs, NOTIFICATION, fails=fails)
    lines = (programs / "notify-send").read_text().splitlines()
    if not fails:
        assert lines == ["Pushed", place]
        return
    assert lines[:2] == ["--urgency=critical", "Push failed"]
    assert lines[2].startswith(f"{place}: ")
    assert "answered 400" in lines[2]


def test_a_message_to_a_chat(tmp_path: Path, webhook: type[Webhook]) -> None:
    place = _push(tmp_path, WEBHOOK, fails=True)
    ((path, kind, body),) = webhook.posted
    assert (path, kind) == ("/hooks/T0123456789", "application/json")
    assert json.loads(body)["text"].startswith(f"The push of {place} failed: ")


def test_a_mail(programs: Path) -> None:
    place = _push(programs, MAIL, fails=True)
    lines = (programs / "mail").read_text().splitlines()
    assert lines[:3] == ["-s", f"Push failed: {place}", "ops@example.com"]
    assert "answered 400" in lines[3]
    assert lines[-2:] == ["", "pusher log 1"]


@pytest.mark.parametrize("text", TOML)
def test_the_settings_are_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "pusher.toml").write_text(text)
    hooks = load({}, {"PUSHER_CONFIG": str(tmp_path / "pusher.toml")}).hooks
    if text == LIMITS:
        assert (hooks.timeout, hooks.waiting_after) == (60, 1800)
    else:
        assert hooks.on_failure


def test_every_field_is_explained(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(3_000))
    with Home(tmp_path / "home") as home:
        job = home.enqueue(archive, "localhost:1/app:1")
        (described,) = describe_jobs(home.store, [job], home.settings.workers)
    tables = [block for block in parse(TOPIC.text) if isinstance(block, Table)]
    explained = [name for row in tables[-1].rows for name in row[0].replace("`", "").split(", ")]
    assert set(described) == set(explained)
    assert len(explained) == len(set(explained))
