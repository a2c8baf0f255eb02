"""Pushing a large docker-archive: pusher beside skopeo and docker, to a registry on this machine.

python -m tests.benchmarks.push [--size 1G] [--rounds 3] [--real-files]
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from pusher.config import parse_size
from tests.benchmarks import link
from tests.benchmarks.archive import write_archive
from tests.benchmarks.measure import MIB, Cost, DaemonMeter, middle, run, wipe
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker

_PUSHER = (sys.executable, "-m", "pusher")
_IMAGE = "localhost/benchmark:1"
_LAYERS = 6
_AGAIN = "pusher, second push"

Push = Callable[[str], Cost]
"""Pushes the archive to ``registry/repository:tag``."""


class Pusher:
    """`pusher push` with a home of its own."""

    def __init__(self, archive: Path, registry: DockerRegistry, home: Path) -> None:
        self._archive = archive
        self._registry = registry
        self._home = home
        self._env = {"PUSHER_HOME": str(home), "DOCKER_CONFIG": str(home)}

    def first(self, reference: str) -> Cost:
        """Push as if pusher had never run here."""
        shutil.rmtree(self._home, ignore_errors=True)
        return self._push(reference)

    def second(self, reference: str) -> Cost:
        """Push the same image again; SystemExit unless nothing was exported and only the manifest sent.

        The spool is emptied before, so that an export would leave something there.
        """
        blobs = self._home / "spool" / "sha256"
        shutil.rmtree(blobs)
        cost = self._push(reference)
        _, output = run([*_PUSHER, "status", "--all", "--json"], self._env)
        job = json.loads(output)["jobs"][-1]
        states = {layer["state"] for layer in job["layers"]}
        names = {layer["digest"].removeprefix("sha256:") for layer in job["layers"]}
        made = [blob.name for blob in blobs.iterdir() if blob.name in names]
        if states != {"exists"} or made or job["bytes_sent"] != self._stored(job["digest"]):
            raise SystemExit(f"the second push did some of the first again: {job}, made {made}")
        return cost

    def _stored(self, digest: str) -> int:
        """Bytes of a manifest in the registry's storage."""
        name = digest.removeprefix("sha256:")
        return (
            (self._registry.data / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data")
            .stat()
            .st_size
        )

    def _push(self, reference: str) -> Cost:
        source = f"docker-archive:{self._archive}"
        return run([*_PUSHER, "push", source, "--to", reference, "--progress", "none"], self._env)[0]


def skopeo(archive: Path, folder: Path) -> Push:
    """`skopeo copy`, with no login of the user's."""
    login = folder / "auth.json"
    login.write_text("{}")
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--authfile", str(login)]
    return lambda reference: run([*command, f"docker-archive:{archive}", f"docker://{reference}"])[0]


def docker(archive: Path, engine: Docker, pid: int) -> Push:
    """`docker load` and `docker push`; the daemon's time and memory are counted, too."""
    meter = DaemonMeter(pid)

    def push(reference: str) -> Cost:
        meter.start()
        cost = _docker(engine.env, "load", "--quiet", "--input", str(archive))
        cost += _docker(engine.env, "tag", _IMAGE, reference)
        cost += _docker(engine.env, "push", "--quiet", reference)
        cost += meter.read()
        engine.run("rmi", "--force", _IMAGE, reference)
        return cost

    return push


def _docker(env: Mapping[str, str], *arguments: str) -> Cost:
    return run(["docker", *arguments], env)[0]


@click.command()
@click.option("--size", default="1G", show_default=True, help="Bytes of the files in the image.")
@click.option("--real-files", is_flag=True, help="This machine's files; else made ones, half incompressible.")
@click.option("--rounds", default=3, show_default=True, help="Pushes with each tool, in turn.")
@click.option(
    "--tool", "names", multiple=True, help="Only this tool, may be repeated: pusher, skopeo, docker."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; needs six times the size.")
def main(size: str, real_files: bool, rounds: int, names: tuple[str, ...], folder: Path | None) -> None:
    """Compare pusher with skopeo and docker. Prints medians; nothing depends on them."""
    if shutil.which("docker-registry") is None:
        raise SystemExit("docker-registry is not installed")
    os.environ.pop("PUSHER_DATABASE_URL", None)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-benchmark-", dir=folder)))
        archive = work / "image.tar"
        if real_files:
            link.write_archive(archive, parse_size(size, "--size"), _LAYERS)
        else:
            write_archive(archive, parse_size(size, "--size"))
        files = "real files" if real_files else "made files"
        print(f"docker-archive of {archive.stat().st_size:,} bytes, {_LAYERS} layers of {files}", end=", ")
        print(f"{os.cpu_count()} processors")
        registry = stack.enter_context(DockerRegistry(work))
        pusher = Pusher(archive, registry, work / "home")
        tools = _tools(stack, pusher, archive, work, names or ("pusher", "skopeo", "docker"))
        costs: dict[str, list[Cost]] = {name: [] for name in tools}
        for number in range(rounds):
            for name, push in tools.items():
                wipe(registry)
                reference = f"{registry.address}/benchmark/{name}-{number}:1"
                costs[name].append(push(reference))
                if name == "pusher":
                    costs.setdefault(_AGAIN, []).append(pusher.second(reference))
                print(f"  round {number + 1}, {name}: {costs[name][-1].wall:.2f} s", file=sys.stderr)
    print_costs({name: middle(found) for name, found in costs.items()})


def _tools(
    stack: ExitStack, pusher: Pusher, archive: Path, work: Path, names: Sequence[str]
) -> dict[str, Push]:
    """The tools among ``names`` that are installed."""
    tools: dict[str, Push] = {}
    if "pusher" in names:
        tools["pusher"] = pusher.first
    if "skopeo" in names and shutil.which("skopeo"):
        tools["skopeo"] = skopeo(archive, work)
    if "docker" in names and shutil.which("dockerd") and shutil.which("docker") and os.geteuid() == 0:
        engine = stack.enter_context(Docker())
        tools["docker"] = docker(archive, engine, int((engine.folder / "docker.pid").read_text()))
    return tools


def print_costs(costs: Mapping[str, Cost]) -> None:
    base = costs.get("skopeo")
    print(f"{'':24}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}   of skopeo: wall, cpu, memory")
    for name, cost in costs.items():
        line = f"{name:24}{cost.wall:9.2f}{cost.cpu:9.2f}{cost.memory / MIB:10.0f}"
        if base is not None:
            ratios = (cost.wall / base.wall, cost.cpu / base.cpu, cost.memory / base.memory)
            line += "   " + "".join(f"{ratio:8.2f}" for ratio in ratios)
        print(line)


if __name__ == "__main__":
    main()
