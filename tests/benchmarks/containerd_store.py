"""Pushing from Docker's containerd image store: `docker push` beside pusher from the disk and from the API.

DOCKER_HOST=unix:///... python -m tests.benchmarks.containerd_store [--size 500M] [--rounds 3]

Needs root and a Docker >= 25 with ``"features": {"containerd-snapshotter": true}`` (29 has it by default)
whose containerd is its own: below the data root, so that the way through Docker's API can be had as well.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from pusher.config import parse_size
from tests.benchmarks.measure import MIB, Cost, middle, run
from tests.benchmarks.storage import empty
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Engine

_IMAGE: Final = "localhost/benchmark:containerd"
_SHARES: Final = (2, 4, 8, 16, 16)
"""Layers; 4 stands for a fourth of the image."""
_DOCKER: Final = "docker push"
_DISK: Final = "pusher push, content store"
_API: Final = "pusher push, Docker's API"


class Running(Engine):
    """The Docker that the environment names."""

    command = "docker"

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_BUILDKIT": "0"}

    def check(self) -> None:
        """SystemExit if its images are not in containerd's store below its own data root."""
        found = self.run("info", "--format", "{{.DriverStatus}} {{.DockerRootDir}}/containerd/daemon")
        status, _, content = found.strip().rpartition(" ")
        if "io.containerd.snapshotter" not in status or not Path(content).is_dir():
            raise SystemExit(f"this Docker has no containerd image store in {content}: {status}")


class Pushes:
    """One image in three ways to an empty registry; SystemExit if the digests are not equal."""

    def __init__(self, engine: Running, registry: DockerRegistry, work: Path) -> None:
        self._engine = engine
        self._registry = registry
        self._home = work / "home"
        self._elsewhere = work / "elsewhere"
        self._to = f"{registry.address}/benchmark/image:1"
        self._expected = engine.image_id(_IMAGE)  # in this store the digest of the manifest or index
        engine.run("tag", _IMAGE, self._to)

    def all(self) -> dict[str, Cost]:
        return {
            _DOCKER: self._docker(),
            _DISK: self._pusher({}),
            _API: self._pusher({"PUSHER_DOCKER_ROOT": str(self._elsewhere)}),  # where nothing is
        }

    def _docker(self) -> Cost:
        empty(self._registry)
        cost, said = run(["docker", "push", self._to])
        self._check(said)
        return cost

    def _pusher(self, env: Mapping[str, str]) -> Cost:
        empty(self._registry)
        shutil.rmtree(self._home, ignore_errors=True)
        command = [sys.executable, "-m", "pusher", "push", f"docker-daemon:{_IMAGE}", "--to", self._to]
        cost, said = run([*command, "--progress", "none"], {**env, "PUSHER_HOME": str(self._home)})
        self._check(said)
        return cost

    def _check(self, said: str) -> None:
        if self._expected not in said:
            raise SystemExit(f"pushed another digest than {self._expected}:\n{said}")


@click.command()
@click.option("--size", default="500M", show_default=True, help="Bytes in the image, incompressible.")
@click.option("--rounds", default=3, show_default=True, help="How often, in turn.")
def main(size: str, rounds: int) -> None:
    """Compare with `docker push`. Prints medians."""
    for variable in ("PUSHER_DATABASE_URL", "PUSHER_DOCKER_ROOT"):
        os.environ.pop(variable, None)
    costs: dict[str, list[Cost]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-benchmark-")))
        engine = Running(work)
        engine.check()
        total = parse_size(size, "--size")
        engine.build_random(_IMAGE, [total // share for share in _SHARES])
        stack.callback(engine.remove, _IMAGE)
        registry = stack.enter_context(DockerRegistry(work))
        pushes = Pushes(engine, registry, work)
        stack.callback(engine.remove, f"{registry.address}/benchmark/image:1")
        print(f"{size} in {len(_SHARES)} layers, {os.cpu_count()} processors, page cache warm")
        for number in range(rounds):
            for name, cost in pushes.all().items():
                costs.setdefault(name, []).append(cost)
                print(f"  round {number + 1}, {name}: {cost.wall:.2f} s", file=sys.stderr)
    _print({name: middle(found) for name, found in costs.items()})


def _print(costs: Mapping[str, Cost]) -> None:
    """The processor time and memory of `docker push` are the daemon's and not in the figures."""
    print(f"{'':32}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    for name, cost in costs.items():
        used = "" if name == _DOCKER else f"{cost.cpu:9.2f}{cost.memory / MIB:10.0f}"
        print(f"{name:32}{cost.wall:9.2f}{used}")
    for name in (_DISK, _API):
        print(f"{name}: {costs[name].wall / costs[_DOCKER].wall:.2f} times as long as {_DOCKER}")


if __name__ == "__main__":
    main()
