"""``docker push`` through ``pusher serve`` on a bad link: ``python -m tests.benchmarks.serve_bad_link``
(as root; needs dockerd and skopeo).

A Docker image with a 300 MB incompressible layer is pushed to a registry with serverless-registry's rules
(chunks of at most 100,000,000 bytes), through a link that resets every 20 MB. ``pusher serve`` is killed
twice with ``kill -9``: while docker sends to it, and while it sends on. The user repeats ``docker push`` when
it fails. The result is compared with a direct push to a registry without limits.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.bad_link import MB
from tests.serve.process import Process, serving
from tests.support.engines import Docker
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Rules
from tests.support.link import ShakyLink
from tests.support.processes import free_port
from tests.support.skopeo import inspect_raw

_MAX_PUSHES: Final = 5
_PATIENCE: Final = 600.0


@dataclass(frozen=True)
class Figures:
    """What it took: bytes and seconds."""

    layer: int
    received: int
    """Bytes of blob bodies that arrived at the destination."""
    resets: int
    pushes: int
    """How often docker push was started."""
    told: tuple[str, ...]
    """The last lines of those that failed."""
    last: float
    """Seconds of the last docker push."""
    wall: float


def push_through_serve(
    docker: Docker, folder: Path, *, layer: int, reset_every: int, rules: Rules = SERVERLESS
) -> Figures:
    """Build, push, kill serve in both halves, push again, compare; AssertionError if a bit is wrong."""
    port = free_port()
    name = f"localhost:{port}/team/app:1"
    docker.build_random(name, [layer, 1_000])
    with (
        FakeRegistry(rules) as registry,
        ShakyLink(registry.address, reset_every_total=reset_every) as link,
        FakeRegistry() as direct,
    ):
        front = _Front(folder, port, link.address)
        began = time.monotonic()
        told: list[str] = []
        kills = [
            lambda: front.received() >= layer // 2,
            lambda: sum(registry.chunks) >= layer // 2,
        ]
        try:
            while len(told) < _MAX_PUSHES:
                pushed_at = time.monotonic()
                push = subprocess.Popen(
                    ["docker", "push", name],
                    env={**os.environ, **docker.env},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                while push.poll() is None:
                    assert time.monotonic() - began < _PATIENCE, front.log()
                    if kills and kills[0]():
                        kills.pop(0)
                        front.restart(signal.SIGKILL)
                    time.sleep(0.02)
                said, _ = push.communicate()
                if push.returncode == 0:
                    break
                told.append(said.strip().splitlines()[-1])
            else:
                raise AssertionError("\n".join([*told, front.log()]))
        finally:
            front.stop()
        wall, last = time.monotonic() - began, time.monotonic() - pushed_at
        assert not kills, "serve was not killed twice"
        docker.run("tag", name, f"{direct.address}/direct:1")
        docker.run("push", f"{direct.address}/direct:1")
        assert inspect_raw(f"{registry.address}/team/app:1") == inspect_raw(f"{direct.address}/direct:1")
        return Figures(
            layer=layer,
            received=registry.body_bytes_received(),
            resets=link.resets,
            pushes=len(told) + 1,
            told=tuple(told),
            last=last,
            wall=wall,
        )


class _Front:
    """``pusher serve`` as a process that is killed and started again at the same port."""

    def __init__(self, folder: Path, port: int, to: str) -> None:
        self._home = folder / "home"
        self._options = ("--to", to, "--listen", f"127.0.0.1:{port}", "--progress", "none")
        self._start()

    def _start(self) -> None:
        self._stack = ExitStack()
        served: Process = self._stack.enter_context(
            serving(*self._options, env={"PUSHER_HOME": str(self._home)})
        )
        self._served = served

    def restart(self, number: int) -> None:
        self._served.end(number)
        self._stack.close()
        self._start()

    def stop(self) -> None:
        self._stack.close()

    def received(self) -> int:
        """Bytes of uploads and blobs that are on its disk."""
        found = 0
        for path in (self._home / "serve" / "received").rglob("*"):
            if re.fullmatch(r"[0-9a-f-]{36,}", path.name):
                try:
                    found = max(found, path.stat().st_size)
                except FileNotFoundError:
                    continue
        return found

    def log(self) -> str:
        """What it printed."""
        return "".join(self._served.said)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", type=int, default=300 * MB, help="bytes of the big layer")
    parser.add_argument("--reset-every", type=int, default=20 * MB, help="bytes between resets of the link")
    parser.add_argument("--min-chunk", type=int, help="of the registry, in bytes")
    parser.add_argument("--max-chunk", type=int, help="of the registry, in bytes")
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pusher-serve-bad-link-") as folder, Docker() as docker:
        figures = push_through_serve(
            docker,
            Path(folder),
            layer=given.layer,
            reset_every=given.reset_every,
            rules=SERVERLESS.scaled(min=given.min_chunk, max=given.max_chunk),
        )
    print(f"the large layer              {figures.layer:>13,} bytes")
    print(f"bodies that arrived          {figures.received:>13,} bytes")
    print(f"resets of the link           {figures.resets:>13}")
    print(f"docker push was started      {figures.pushes:>13} times")
    for line in figures.told:
        print(f"  failed with: {line}")
    print(f"the last docker push         {figures.last:>13.1f} s")
    print(f"wall time                    {figures.wall:>13.1f} s")
    print("the manifest is that of a direct push")


if __name__ == "__main__":
    main()
