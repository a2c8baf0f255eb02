"""What tools do when a link breaks: ``python -m tests.benchmarks.other_tools`` (as root; needs dockerd).

An image with one incompressible layer of 300 MB goes through a link on loopback. Three cases: the link
breaks once, in the middle of the layer; it breaks after every third of it; the tool is killed in the middle
and its command run again. Prints how each ends, and how many times the layer's bytes went over the link.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker
from tests.support.link import ShakyLink
from tests.support.processes import Daemon, free_port, listens

MB: Final = 1_000_000
_IMAGE: Final = "localhost/other-tools:1"
_LONGEST: Final = 900.0


@dataclass(frozen=True)
class Tool:
    """``command`` makes the words for a destination ``host:port/repository:tag``."""

    name: str
    command: Callable[[str], list[str]]
    env: dict[str, str]
    again: list[str] | None = None
    """What is run after a kill, where it is not the same command."""


@dataclass(frozen=True)
class Outcome:
    code: int
    sent: int
    """Bytes over the link, from the client."""
    seconds: float


def one_break(tool: Tool, link: ShakyLink, reference: str, layer: int) -> int:
    """Cut once, in the middle of the layer; return the exit code."""
    link.reset_every_total = layer // 2
    process = _start(tool.command(reference), tool)
    if _carries(link, process, layer // 2):
        link.reset_every_total = None
    return _end(process)


def many_breaks(tool: Tool, link: ShakyLink, reference: str, layer: int) -> int:
    """Cut after each third of the layer; return the exit code."""
    link.reset_every_total = layer // 3
    return _end(_start(tool.command(reference), tool))


def killed(tool: Tool, link: ShakyLink, reference: str, layer: int) -> int:
    """Kill it in the middle of the layer, run it again; return the second exit code."""
    process = _start(tool.command(reference), tool)
    if _carries(link, process, layer // 2):
        process.kill()
    process.wait()
    return _end(_start(tool.again or tool.command(reference), tool))


CASES: Final = {"one break": one_break, "a break every third": many_breaks, "killed, run again": killed}


def _start(command: list[str], tool: Tool) -> subprocess.Popen[bytes]:
    quiet: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, **tool.env}, **quiet)


def _carries(link: ShakyLink, process: subprocess.Popen[bytes], goal: int) -> bool:
    """Wait until the link has carried ``goal`` bytes; False if the process ends before."""
    while link.bytes_sent < goal:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def _end(process: subprocess.Popen[bytes]) -> int:
    timer = threading.Timer(_LONGEST, process.kill)
    timer.start()
    try:
        return process.wait()
    finally:
        timer.cancel()


def tools(docker: Docker, archive: Path, home: Path, crane: str | None) -> list[Tool]:
    """The tools that are installed."""
    pusher = [sys.executable, "-m", "pusher"]
    found = [
        Tool(
            "pusher push",
            lambda to: [*pusher, "push", str(archive), "--to", to],
            {"PUSHER_HOME": str(home), "DOCKER_CONFIG": str(home)},
            again=[*pusher, "run"],
        ),
        Tool("docker push", lambda to: ["docker", "push", to], docker.env),
    ]
    if shutil.which("skopeo"):
        copy = ["skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{archive}"]
        found.append(Tool("skopeo copy", lambda to: [*copy, f"docker://{to}"], {}))
        again = [*copy[:2], "--retry-times=3", *copy[2:]]
        found.append(Tool("skopeo copy --retry-times=3", lambda to: [*again, f"docker://{to}"], {}))
    if crane:
        found.append(Tool("crane push", lambda to: [crane, "push", str(archive), to], {}))
    return found


@contextmanager
def registry(folder: Path, binary: str | None) -> Iterator[str]:
    """Distribution: the one of Debian, or another version's binary; yield its address."""
    if binary is None:
        with DockerRegistry(folder) as debian:
            yield debian.address
        return
    port = free_port()
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    daemon = Daemon("registry", folder / "registry.log")
    daemon.start([binary, "serve", str(config)], lambda: listens(port))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        daemon.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", type=int, default=300 * MB, help="bytes of the layer")
    parser.add_argument("--registry", help="a binary of distribution; default: Debian's docker-registry")
    parser.add_argument("--crane", default=shutil.which("crane"), help="path of crane")
    given: Any = parser.parse_args()
    print(f"{'':30}{'':22}{'exit':>5}{'sent / layer':>14}{'seconds':>9}")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-other-tools-")))
        docker = stack.enter_context(Docker())
        docker.build_random(_IMAGE, [given.layer])
        archive = work / "image.tar"
        docker.run("save", "--output", str(archive), _IMAGE)
        for number, (name, case) in enumerate(CASES.items()):
            for index, tool in enumerate(tools(docker, archive, work / f"home-{number}", given.crane)):
                folder = work / f"registry-{number}-{index}"
                folder.mkdir()
                with registry(folder, given.registry) as address, ShakyLink(address) as link:
                    reference = f"{link.address}/other/tools:1"
                    docker.run("tag", _IMAGE, reference)
                    started = time.monotonic()
                    code = case(tool, link, reference, given.layer)
                    outcome = Outcome(code, link.bytes_sent, time.monotonic() - started)
                shutil.rmtree(folder)
                times = outcome.sent / given.layer
                print(
                    f"{tool.name:30}{name:22}{outcome.code:>5}{times:>14.2f}{outcome.seconds:>9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
