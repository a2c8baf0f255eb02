"""The main job on a bad link: ``python -m tests.benchmarks.bad_link`` (as root; needs dockerd and skopeo).

A Docker image with a 300 MB incompressible layer is pushed to a registry with serverless-registry's rules
(chunks of at most 100,000,000 bytes), through a link that resets every 20 MB, by a worker that is killed
twice with ``kill -9``. Then skopeo pulls it back, and everything is compared. Prints the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.engines import Docker
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Rules
from tests.support.link import ShakyLink
from tests.support.skopeo import read_back

_ROOT: Final = Path(__file__).parents[2]
_KILLS: Final = 2
MB: Final = 1_000_000


@dataclass(frozen=True)
class Figures:
    """What it took. Bytes and seconds; ``sent`` is what pusher says, ``carried`` what the link saw."""

    layer: int
    blobs: int
    sent: int
    carried: int
    received: int
    """Bytes of blob bodies that arrived at the registry."""
    resets: int
    kills: int
    sessions_lost: int
    wall: float

    @property
    def ratio(self) -> float:
        """Bytes of bodies that arrived for each byte of the image."""
        return self.received / self.blobs


def push_over_bad_link(
    docker: Docker,
    folder: Path,
    *,
    layer: int,
    reset_every: int,
    rules: Rules = SERVERLESS,
    options: tuple[str, ...] = (),
) -> Figures:
    """Build, push, kill, push, kill, push, read back; AssertionError if a bit of it is wrong."""
    tag = "localhost/bad-link:1"
    image_id = docker.build_random(tag, [layer, 1_000])
    environment = {**os.environ, **docker.env, "PUSHER_HOME": str(folder), "PYTHONPATH": str(_ROOT)}

    def pusher(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pusher", *arguments]
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    started = time.monotonic()
    with (
        FakeRegistry(rules) as registry,
        ShakyLink(registry.address, reset_every_total=reset_every) as link,
    ):
        process = pusher("push", tag, "--to", f"{link.address}/bad/link:1", *options)
        kills = 0
        while True:
            goal = layer * (kills + 1) // (_KILLS + 1)
            while process.poll() is None and (kills == _KILLS or _acknowledged(registry) < goal):
                time.sleep(0.01)
            if process.poll() is not None:
                break
            process.kill()
            process.communicate()
            kills += 1
            process = pusher("run", *options)
        _, complaint = process.communicate()
        assert (process.returncode, kills) == (0, _KILLS), complaint
        wall = time.monotonic() - started

        back = read_back(f"{registry.address}/bad/link:1")
        assert back.config_digest == image_id
        assert [read.diff_id for read in back.layers] == docker.diff_ids(tag)
        asked = pusher("status", "--json", "--all")
        (job,) = json.loads(asked.communicate()[0])["jobs"]
        assert (job["state"], job["digest"]) == ("succeeded", back.digest)
        told = pusher("log", str(job["id"]))
        return Figures(
            layer=layer,
            blobs=job["bytes_total"],
            sent=job["bytes_sent"],
            carried=link.bytes_sent,
            received=registry.body_bytes_received(),
            resets=link.resets,
            kills=kills,
            sessions_lost=told.communicate()[0].count("session-lost"),
            wall=wall,
        )


def _acknowledged(registry: FakeRegistry) -> int:
    return sum(registry.chunks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", type=int, default=300 * MB, help="bytes of the big layer")
    parser.add_argument("--reset-every", type=int, default=20 * MB, help="bytes between resets of the link")
    parser.add_argument("--chunk-size", help="as for pusher run")
    given: Any = parser.parse_args()
    options = ("--chunk-size", given.chunk_size) if given.chunk_size else ()
    with tempfile.TemporaryDirectory(prefix="pusher-bad-link-") as folder, Docker() as docker:
        figures = push_over_bad_link(
            docker, Path(folder), layer=given.layer, reset_every=given.reset_every, options=options
        )
    print(f"image, compressed            {figures.blobs:>13,} bytes")
    print(f"sent, as pusher counts       {figures.sent:>13,} bytes")
    print(f"bodies that arrived          {figures.received:>13,} bytes, {figures.ratio:.2f} times the image")
    print(f"all that the link carried    {figures.carried:>13,} bytes")
    print(f"resets of the link           {figures.resets:>13}")
    print(f"worker killed with kill -9   {figures.kills:>13}")
    print(f"upload sessions lost         {figures.sessions_lost:>13}")
    print(f"wall time                    {figures.wall:>13.1f} s")
    print("pulled back with skopeo: the same, bit for bit")


if __name__ == "__main__":
    main()
