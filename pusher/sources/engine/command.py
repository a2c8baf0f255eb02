"""Run docker, podman and nerdctl, and translate their error messages into errors."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pusher.config.child_environment import engine_environment
from pusher.dataclass import dataclass
from pusher.errors import (
    EngineFailed,
    EngineMissing,
    EngineNotPermitted,
    EngineNotRunning,
    ImageNotFound,
    PusherError,
    ReferenceMalformed,
)
from pusher.text import printable
from pusher.waiting import SilenceReporter, communicate

_ANSWER_SECONDS: Final = 60
_STOP_SECONDS: Final = 5
_PIPE_BYTES: Final = 1 << 20


Daemon = Mapping[str, str | None]
"""The environment variables that choose a daemon; None for one that must not be set."""


@dataclass(frozen=True)
class Engine:
    """An engine with a command line like Docker's."""

    kind: str
    """The prefix that chooses it, stored with the job."""
    command: str
    title: str
    save: tuple[str, ...]
    """The arguments that write an archive to standard output."""
    host_variables: tuple[str, ...]
    """The environment variables that choose a daemon; stored with the job for its worker."""

    def daemon(self) -> dict[str, str | None]:
        """Return the host variables as they are now; None for one that is not set."""
        return {variable: os.environ.get(variable) for variable in self.host_variables}


DOCKER: Final = Engine("docker-daemon", "docker", "Docker", ("save",), ("DOCKER_HOST", "DOCKER_CONTEXT"))
PODMAN: Final = Engine(
    "podman", "podman", "Podman", ("save", "--quiet", "--format", "docker-archive"), ("CONTAINER_HOST",)
)
NERDCTL: Final = Engine(
    "nerdctl", "nerdctl", "nerdctl", ("save",), ("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "NERDCTL_TOML")
)
ENGINES: Final = {engine.kind: engine for engine in (DOCKER, PODMAN, NERDCTL)}

_ERROR_BYTES: Final = 4096
"""Bytes at the end of a command's standard error that are examined."""
_NOT_FOUND: Final = (
    r"(?i)no such image|image not known|unable to find .{1,300} in local storage|reference does not exist"
    r"|failed to find image|no such object"
)
_MALFORMED: Final = r"(?i)invalid reference format|parsing reference|invalid repository name"
_NOT_PERMITTED: Final = (
    r"(?i)permission denied .{0,80}(daemon|docker|podman).{0,80}(socket|api)"
    r"|containerd socket.{0,80}permission denied"
)
_NOT_RUNNING: Final = (
    r"(?i)cannot connect to the docker daemon|is the docker daemon running"
    r"|failed to connect to the docker api|error during connect|cannot connect to podman"
    r"|unable to connect to podman|connection refused"
    r"|cannot access containerd socket|rootless containerd not running"
)


def is_installed(engine: Engine) -> bool:
    """Return whether its command is in PATH."""
    return shutil.which(engine.command) is not None


def run_command(engine: Engine, *arguments: str, daemon: Daemon | None = None) -> str:
    """Run a short command, and return its standard output.

    Raises Engine*, ImageNotFound, ReferenceMalformed.
    """
    try:
        with subprocess.Popen(
            [engine.command, *arguments],
            env=_environment(daemon),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                output, said = communicate(process, None, limit=_ANSWER_SECONDS, name=engine.title)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise _cannot_run_error(engine, error) from None
    except subprocess.TimeoutExpired:
        raise EngineNotRunning(
            f"{engine.title} did not respond within {_ANSWER_SECONDS} seconds",
            hint=_start_hint(engine, daemon),
        ) from None
    if process.returncode:
        raise command_error(engine, arguments, process.returncode, said, daemon)
    return output.decode("utf-8", "replace")


class CommandOutput:
    """The standard output of a running command. Leaving the context kills the command and its children."""

    def __init__(
        self,
        engine: Engine,
        *arguments: str,
        daemon: Daemon | None = None,
        check_stop: Callable[[], None] | None = None,
        takes_input: bool = False,
    ) -> None:
        """``check_stop`` is called each second of waiting for output. ``takes_input``: it is to ``write``."""
        self.engine = engine
        self._arguments = arguments
        self._daemon = daemon
        self._check_stop = check_stop or SilenceReporter(f"`{engine.command} {arguments[0]}`")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            self._process = subprocess.Popen(
                [engine.command, *arguments],
                env=_environment(daemon),
                stdin=subprocess.PIPE if takes_input else subprocess.DEVNULL,
                bufsize=0,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # Its own group: pusher handles Ctrl-C, and the group can be killed as a whole.
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise _cannot_run_error(engine, error) from None
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._pipe = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):  # over the user's quota: slower, nothing else
                fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end; call ``check_stop`` each second of waiting."""
        self._wait()
        return os.read(self._pipe, size)

    def read_into(self, buffer: memoryview) -> int:
        """Do the same into ``buffer``; return the number of bytes."""
        self._wait()
        return os.readv(self._pipe, [buffer])

    def write(self, data: bytes) -> None:
        """Write all of ``data`` to the command's standard input. Raises OSError."""
        assert self._process.stdin is not None  # noqa: S101 - asked for with takes_input
        view = memoryview(data)
        while view:
            view = view[self._process.stdin.write(view) :]

    def _wait(self) -> None:
        while not self._poll.poll(1000):
            self._check_stop()

    def finish(self, *, complete: bool) -> None:
        """Read the rest and wait for the command to exit; raise the error if it failed.

        ``complete``: the archive in its output was complete; if not, that is an error, too.
        """
        while self.read(_PIPE_BYTES):
            pass
        if self._process.wait() or not complete:
            raise self.error()

    def error(self) -> PusherError:
        """Return why the output is unusable, from the exit code and the standard error."""
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            code = 0
        self._errors.seek(0)
        said = self._errors.read(1 << 16)
        if code or said:
            return command_error(self.engine, self._arguments, code, said, self._daemon)
        return EngineFailed(
            f"`{self.engine.command} {self._arguments[0]}` returned a truncated or damaged archive",
            hint="try again; if it fails again, save the image to a file and push that file",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        for ending in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            try:
                os.killpg(self._process.pid, ending)
            except ProcessLookupError:
                break
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()


def command_error(
    engine: Engine,
    arguments: tuple[str, ...],
    code: int,
    said: bytes,
    daemon: Daemon | None = None,
) -> PusherError:
    """Return the error for a command that exited with ``code`` and ``said`` on standard error."""
    text = said[-_ERROR_BYTES:].decode("utf-8", "replace").strip()
    if re.search(_NOT_PERMITTED, text):
        return EngineNotPermitted(
            f"{engine.title} does not let this user use its socket",
            hint="run pusher with sudo"
            if engine is NERDCTL
            else "run `sudo usermod -aG docker $USER` and log in again, or run pusher with sudo",
        )
    if re.search(_NOT_RUNNING, text):
        return EngineNotRunning(f"{engine.title} does not respond", hint=_start_hint(engine, daemon))
    if re.search(_NOT_FOUND, text):
        return ImageNotFound(f"{engine.title} has no image {arguments[-1]}")
    if re.search(_MALFORMED, text):
        return ReferenceMalformed(
            f"{engine.title} says that {arguments[-1]!r} is not an image name",
            hint="a name looks like registry.example.com/team/app:1.2",
        )
    last = text.rsplit("\n", 1)[-1].removeprefix("Error: ") if text else f"exit code {code}"
    away = " > /dev/null" if arguments[0] == "save" else ""
    by_hand = shlex.join([engine.command, *arguments])
    return EngineFailed(
        f"`{engine.command} {arguments[0]}` failed: {last[:500]}",
        hint=f"try it by hand: {by_hand}{away}" if printable(by_hand) == by_hand else "",
    )


def _environment(daemon: Daemon | None) -> dict[str, str]:
    changed: dict[str, str | None] = {**engine_environment(), "LC_ALL": "C", **(daemon or {})}
    return {variable: value for variable, value in changed.items() if value is not None}


def _cannot_run_error(engine: Engine, error: OSError) -> PusherError:
    if not isinstance(error, FileNotFoundError):
        return EngineFailed(
            f"cannot run `{engine.command}`: {error.strerror or error}",
            hint=f"check which one it is: command -v {engine.command}",
        )
    return EngineMissing(
        f"the `{engine.command}` command is not installed, or not in PATH",
        hint="install it, or push an archive file: docker-archive:PATH",
    )


def _start_hint(engine: Engine, daemon: Daemon | None) -> str:
    current = _environment(daemon)
    for variable in engine.host_variables:
        if current.get(variable):
            return f"{variable} is {current[variable]}: is that right, and is it running there?"
    if engine is DOCKER:
        return "start it: sudo systemctl start docker"
    return f"check it with: {engine.command} info"
