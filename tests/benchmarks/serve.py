"""``pusher serve --local`` beside docker's registry: ``python -m tests.benchmarks.serve`` (as root; needs
dockerd and docker-registry).

``docker push`` of an image with eight layers to each of the two in turn; eight clients that push at once; an
image of 1,000 blobs; HEADs one after the other. Prints wall time, and the server's processor time and peak
memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import requests

from tests.benchmarks.measure import MIB, DaemonMeter
from tests.serve.process import Process, serving
from tests.serve.served import Repository, Served, sha256
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker

_CLIENTS: Final = 8
_BLOBS: Final = 1000
_HEADS: Final = 1000


def push_with_docker(folder: Path, layers: int, size: int, rounds: int) -> None:
    """Print the wall times of ``docker push`` to both registries."""
    walls: dict[str, list[float]] = {"pusher serve": [], "distribution": []}
    with Docker() as docker, DockerRegistry(folder) as registry:
        image = "localhost/benchmark:1"
        docker.build_random(image, [size] * layers)
        for number in range(rounds):
            with serving("--local", str(folder / "local")) as served:
                meter = DaemonMeter(served.process.pid)
                meter.start()
                address = served.url.removeprefix("http://")
                walls["pusher serve"].append(_push(docker, image, f"{address}/a{number}:1"))
                cost = meter.read()
            walls["distribution"].append(_push(docker, image, f"{registry.address}/a{number}:1"))
            shutil.rmtree(folder / "local")
            shutil.rmtree(registry.data, ignore_errors=True)
            ours, theirs = walls["pusher serve"][-1], walls["distribution"][-1]
            print(
                f"docker push, {layers} layers of {size // MIB} MiB: pusher serve {ours:5.2f} s "
                f"({cost.cpu:.2f} s of processor, {cost.memory // MIB} MiB), distribution {theirs:5.2f} s"
            )
    ratio = median(walls["pusher serve"]) / median(walls["distribution"])
    print(f"medians: {ratio:.2f} times distribution")


def _push(docker: Docker, image: str, remote: str) -> float:
    docker.run("tag", image, remote)
    began = time.perf_counter()
    docker.run("push", remote)
    return time.perf_counter() - began


def push_at_once(folder: Path, size: int) -> None:
    """Print the memory with eight clients at once."""
    data = os.urandom(MIB) * (size // MIB)
    digest = sha256(data)

    def push(repository: Repository) -> None:
        location = repository.open()
        answer = repository.served.ask("PATCH", location, data=data, timeout=300)
        repository.served.ask("PUT", f"{answer.headers['Location']}?digest={digest}").raise_for_status()

    with serving("--local", str(folder / "at-once")) as served:
        threads = [
            threading.Thread(target=push, args=(_client(served, f"a{number}"),)) for number in range(_CLIENTS)
        ]
        wall, cost = _measure(served, lambda: _run_all(threads))
    print(f"{_CLIENTS} clients, {size // MIB} MiB each: {wall:.2f} s, peak memory {cost.memory // MIB} MiB")


def push_many_blobs(folder: Path) -> None:
    """Print the time for an image of 1,000 blobs, and HEADs a second."""
    with serving("--local", str(folder / "many")) as served:
        repository = _client(served, "many")
        layers = [os.urandom(1000) for _ in range(_BLOBS)]

        def push() -> None:
            assert repository.push(repository.image(*layers), "1").ok

        wall, cost = _measure(served, push)
        print(f"{_BLOBS} blobs: {wall:.2f} s, {cost.cpu:.2f} s of processor, {cost.memory // MIB} MiB")

        def ask() -> None:
            for number in range(_HEADS):
                assert repository.ask("HEAD", f"blobs/{sha256(layers[number % _BLOBS])}").ok

        wall, cost = _measure(served, ask)
        print(f"HEADs: {_HEADS / wall:.0f} a second by one client, {cost.cpu / _HEADS * 1000:.2f} ms each")


def _client(served: Process, name: str) -> Repository:
    client = Served(Path())
    client.http, client.url = requests.Session(), served.url
    client.http.trust_env = False
    return Repository(client, name)


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _measure(served: Process, work: Callable[[], None]) -> tuple[float, Any]:
    meter = DaemonMeter(served.process.pid)
    meter.start()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began, meter.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--size", type=int, default=60, help="MiB of a layer")
    parser.add_argument("--rounds", type=int, default=5)
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pusher-serve-") as folder:
        push_at_once(Path(folder), given.size * MIB)
        push_many_blobs(Path(folder))
        push_with_docker(Path(folder), given.layers, given.size * MIB, given.rounds)


if __name__ == "__main__":
    main()
