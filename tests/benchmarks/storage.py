"""Reading an image from Docker's disk beside `docker save`, and pushing it both ways, beside `docker push`.

python -m tests.benchmarks.storage [--size 1G] [--files 30000] [--rounds 3] [--rate 10M]
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from pusher.config import parse_size
from tests.benchmarks.measure import MIB, Cost, DaemonMeter, middle, run
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker
from tests.support.shaped_link import ShapedLink

_BASE, _NEW = "localhost/benchmark:1", "localhost/benchmark:2"
_NEW_BYTES: Final = 1_000_000
_READ: Final = """
import hashlib, sys
from pusher.sources.engine.disk.docker import DockerStorage
from pathlib import Path
storage = DockerStorage(Path(sys.argv[1]))
for layer in storage.layers(storage.find(sys.argv[2])):
    with layer.tar() as tar:
        digest = "sha256:" + hashlib.file_digest(tar, "sha256").hexdigest()
    assert digest == layer.diff_id
"""
"""Every layer put together and compared with its diff ID."""


def write_layer(path: Path, size: int, files: int) -> None:
    """A tar of many files like those of a Python environment: folders of 100, half the bytes random."""
    source = random.Random(0)
    text = b"def function(argument):\n    return argument + 1\n" * 100
    with tarfile.open(path, "w") as tar:
        for number in range(files):
            length = max(1, round(2 * size / files * source.random()))
            half = source.randbytes(length // 2)
            data = half + (text * (length // len(text) + 1))[: length - len(half)]
            member = tarfile.TarInfo(f"usr/lib/package-{number // 100}/module-{number}.py")
            member.size, member.mode = length, 0o644
            tar.addfile(member, io.BytesIO(data))


class Pushes:
    """`docker push` and `pusher push` of an image in the daemon, from its disk or through `docker save`, to
    ``address``, which leads to ``registry``."""

    def __init__(self, engine: Docker, registry: DockerRegistry, address: str, work: Path) -> None:
        self._engine = engine
        self._registry = registry
        self._address = address
        self._home = work / "home"
        self._elsewhere = work / "elsewhere"

    def docker(self) -> Cost:
        """`docker push` of the base image to an empty registry."""
        empty(self._registry)
        to = f"{self._address}/benchmark/docker:1"
        self._engine.run("tag", _BASE, to)
        cost = metered(self._engine, lambda: run(["docker", "push", "--quiet", to], self._engine.env)[0])
        self._engine.run("rmi", to)
        return cost

    def both(self, kind: str) -> dict[str, Cost]:
        """The base image to an empty registry, then a version with one small layer more."""
        shutil.rmtree(self._home, ignore_errors=True)
        empty(self._registry)
        return {
            f"push, {kind}": self._push(kind, _BASE),
            f"push of the next version, {kind}": self._push(kind, _NEW),
        }

    def _push(self, kind: str, image: str) -> Cost:
        to = f"{self._address}/benchmark/{image.rpartition('/')[2]}"
        env = {**self._engine.env, "PUSHER_HOME": str(self._home)}
        if kind == "docker save":
            env["PUSHER_DOCKER_ROOT"] = str(self._elsewhere)  # where nothing is
        command = [sys.executable, "-m", "pusher", "push", image, "--to", to, "--progress", "none"]
        return metered(self._engine, lambda: run(command, env)[0])


def metered(engine: Docker, work: Callable[[], Cost]) -> Cost:
    """The cost of ``work`` with what the daemon does for it."""
    meter = DaemonMeter(int((engine.folder / "docker.pid").read_text()))
    meter.start()
    cost = work()
    return cost + meter.read()


def empty(registry: DockerRegistry) -> None:
    """An empty registry, and nothing left to be written to disk."""
    registry.stop()
    shutil.rmtree(registry.data, ignore_errors=True)
    os.sync()
    registry.start()


def _reads(engine: Docker) -> dict[str, Cost]:
    root = str(engine.folder / "data")
    save = ["sh", "-c", f"docker save {_BASE} > /dev/null"]
    return {
        "docker save > /dev/null": metered(engine, lambda: run(save, engine.env)[0]),
        "docker-storage, all layers": metered(
            engine, lambda: run([sys.executable, "-c", _READ, root, _BASE])[0]
        ),
    }


@click.command()
@click.option("--size", default="1G", show_default=True, help="Bytes of the files in the image.")
@click.option("--files", default=30_000, show_default=True, help="How many files.")
@click.option("--rounds", default=3, show_default=True, help="How often, in turn.")
@click.option("--driver", help="Docker's storage driver, e.g. overlay2.")
@click.option("--rate", help="Bytes per second of a link to the registry, with a round trip of 20 ms.")
def main(size: str, files: int, rounds: int, driver: str | None, rate: str | None) -> None:
    """Compare reading Docker's disk with `docker save`. Prints medians. Needs root."""
    os.environ.pop("PUSHER_DATABASE_URL", None)
    os.environ.pop("PUSHER_DOCKER_ROOT", None)
    costs: dict[str, list[Cost]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-benchmark-")))
        engine = stack.enter_context(Docker(driver))
        _build(engine, work, parse_size(size, "--size"), files)
        registry = stack.enter_context(DockerRegistry(work))
        address = registry.address
        if rate is not None:
            speed = parse_size(rate, "--rate")
            address = stack.enter_context(ShapedLink(address, rate=speed, round_trip=0.02)).address
        pushes = Pushes(engine, registry, address, work)
        print(f"{size} in {files:,} files, one layer, {os.cpu_count()} processors, page cache warm")
        for number in range(rounds):
            measured = _reads(engine) | pushes.both("disk") | pushes.both("docker save")
            measured["docker push"] = pushes.docker()
            for name, cost in measured.items():
                costs.setdefault(name, []).append(cost)
                print(f"  round {number + 1}, {name}: {cost.wall:.2f} s", file=sys.stderr)
    _print({name: middle(found) for name, found in costs.items()})


def _build(engine: Docker, work: Path, size: int, files: int) -> None:
    layer = work / "layer.tar"
    write_layer(layer, size, files)
    engine.run("import", str(layer), _BASE)
    layer.unlink()
    more = {"new": random.Random(1).randbytes(_NEW_BYTES)}
    engine.build(_NEW, more, f"FROM {_BASE}\nCOPY new /new\n")


def _print(costs: Mapping[str, Cost]) -> None:
    print(f"{'':44}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    for name, cost in costs.items():
        print(f"{name:44}{cost.wall:9.2f}{cost.cpu:9.2f}{cost.memory / MIB:10.0f}")
    pairs: Sequence[tuple[str, str]] = (
        ("docker save > /dev/null", "docker-storage, all layers"),
        ("push, docker save", "push, disk"),
        ("push of the next version, docker save", "push of the next version, disk"),
    )
    for slow, fast in pairs:
        print(f"{fast}: {costs[slow].wall / costs[fast].wall:.1f} times as fast as {slow}")


if __name__ == "__main__":
    main()
