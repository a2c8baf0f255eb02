"""A world in which commands go wrong: registries, archives, engines, and the command itself."""

from __future__ import annotations

import errno
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest

from pusher.errors import PusherError
from tests.cli.conftest import Pusher, Result
from tests.registry.sites import Seen, Site
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import SERVERLESS, Action, FakeRegistry, Fault, On
from tests.support.fakeregistry.rules import Rules
from tests.support.fakeregistry.wire import Reply
from tests.support.images import Image, make_image, write_archive
from tests.support.processes import unmount_below
from tests.support.real import require

CHUNK: Final = 20_000
IMAGE: Final = make_image(50_000, compressible=0.0)
PUBLIC: Final = "registry.example.com"
NAME: Final = f"{PUBLIC}/team/app:1.2"

Situation = Callable[["World"], object]
SITUATIONS: dict[str, tuple[str, Situation]] = {}
"""By the name of their snapshot: the code of the error that is met, and how it comes about."""


def situation(name: str, code: str = "") -> Callable[[Situation], Situation]:
    """Register a situation. ``code`` is the name's beginning where it is not given."""

    def register(function: Situation) -> Situation:
        assert name not in SITUATIONS
        SITUATIONS[name] = (code or name, function)
        return function

    return register


class World:
    """What one situation needs; all that it shows is kept, with what differs from run to run taken out."""

    def __init__(
        self, folder: Path, stack: ExitStack, patch: pytest.MonkeyPatch, pusher: Pusher, home: Path
    ) -> None:
        self.folder = folder
        self.home = home
        self.patch = patch
        self.stack = stack
        self.errors: list[PusherError] = []
        self.last = Result(0, "", "")
        self._pusher = pusher
        self._shown: list[str] = []
        self._note_errors()
        self._stay_here()
        self.env(PUSHER_PARALLEL="1", PUSHER_GIVE_UP_AFTER="0.05", PUSHER_ANSWER_TIMEOUT="30")

    def env(self, **variables: str) -> None:
        for name, value in variables.items():
            self.patch.setenv(name, value)

    # --- what there is --------------------------------------------------------------------------------------

    def registry(self, rules: Rules | None = None, **options: Any) -> FakeRegistry:
        rules = rules or SERVERLESS.scaled(min=1000, max=CHUNK)
        return self.stack.enter_context(FakeRegistry(rules, **options))

    def broken(self, on: On, action: Action, **options: Any) -> str:
        """The address of a registry in which this goes wrong, again and again."""
        registry = self.registry()
        registry.faults.add(Fault(on, action, **{"times": None, **options}))
        return registry.address

    def archive(self, image: Image = IMAGE, name: str = "app.tar", **options: Any) -> Path:
        return write_archive(self.folder / name, image, **options)

    def site(self, answer: Callable[[Seen], Reply], tls: ssl.SSLContext | None = None) -> Site:
        return self.stack.enter_context(Site(answer, tls))

    def small_disk(self, size: int, at: Path | None = None) -> Path:
        """A file system of ``size`` bytes."""
        require("mount", root=True)
        disk = at or self.folder / "disk"
        disk.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=0700,size={size}", "tmpfs", str(disk)], check=True
        )
        self.stack.callback(unmount_below, disk)
        return disk

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def engine(self, command: str = "docker") -> FakeEngine:
        """A Docker or Podman that is alone in PATH; it has an image NAME."""
        self.patch.setenv("PATH", str(self.folder / "bin"))
        engine = FakeEngine(self.folder / "bin", command)
        engine.has(IMAGE, self.archive(name="saved.tar"))
        return engine

    # --- what is done ---------------------------------------------------------------------------------------

    def run(self, *arguments: str | Path) -> Result:
        """The command, in this process."""
        words = [str(argument) for argument in arguments]
        return self._keep(shlex.join(["pusher", *words]), self._pusher(*words))

    def push(self, image: str | Path, to: str, *options: str) -> Result:
        """``pusher push`` without a display."""
        return self.run("push", image, "--to", to, "--progress", "none", *options)

    def push_archive(self, registry: str, *options: str) -> Result:
        return self.push(self.archive(), f"{registry}/team/app:1.2", *options)

    def shell(self, script: str) -> Result:
        """A line of shell, with the real command in it."""
        program = self.folder / "command" / "pusher"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pusher "$@"\n')
        program.chmod(0o755)
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(_ROOT)},
        )
        return self._keep(script, Result(done.returncode, done.stdout, done.stderr))

    # --- what was shown -------------------------------------------------------------------------------------

    def shown(self) -> str:
        """Everything, as the snapshot keeps it."""
        return "\n".join(self._shown)

    def codes(self) -> set[str]:
        """Of the errors whose sentence the last command showed."""
        return {error.code for error in self.errors if error.message in self.last.err}

    def _keep(self, command: str, result: Result) -> Result:
        self.last = result
        parts = [f"$ {command}\n"]
        for name, text in (("stdout", result.out), ("stderr", result.err)):
            if text:
                parts.append(f"--- {name}\n{text}")
        parts.append(f"--- exit code {result.code}\n")
        self._shown.append(self._normal("".join(parts)))
        return result

    def _normal(self, text: str) -> str:
        text = text.replace(str(self.folder), "/home/alice").replace(os.environ["HOME"], "/home/alice")
        text = re.sub(r"(schema|needs|known:|->) 00\d\d\b", r"\1 00NN", text)
        text = re.sub(r"(127\.0\.0\.1|localhost|registry\.example\.com):\d+", r"\1:PORT", text)
        text = re.sub(r"\(pid \d+\)", "(pid N)", text)
        text = re.sub(r"Testing CA #[\w-]+", "Testing CA #N", text)
        text = re.sub(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", "UUID", text)
        text = re.sub(r"20(?!25)\d\d-\d\d-\d\d( \d\d:\d\d)?", "DATE", text)
        return re.sub(r"line \d+$", "line N", text, flags=re.MULTILINE)

    def _stay_here(self) -> None:
        """Nothing is contacted beyond loopback, whatever a registry of these tests says; registry.example.com
        is here, and no other name is known."""
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def known(host: Any, *arguments: Any, **options: Any) -> Any:
            if host == PUBLIC:
                host = "127.0.0.1"
            try:
                ip_address(host)
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            return look_up(host, *arguments, **options)

        def guarded(sock: socket.socket, address: Any) -> None:
            if sock.family != socket.AF_UNIX and not ip_address(address[0]).is_loopback:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "beyond loopback")
            connect(sock, address)

        self.patch.setattr(socket, "getaddrinfo", known)
        self.patch.setattr(socket.socket, "connect", guarded)

    def _note_errors(self) -> None:
        build = PusherError.__init__

        def noting(error: PusherError, *arguments: Any, **options: Any) -> None:
            build(error, *arguments, **options)
            self.errors.append(error)

        self.patch.setattr(PusherError, "__init__", noting)


_ROOT: Final = Path(__file__).parents[2]
