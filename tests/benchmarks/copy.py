"""Copying an image from one registry to another: pusher beside skopeo, both registries on this machine.

python -m tests.benchmarks.copy [--size 500M] [--rounds 5]

Nothing is known of the image: pusher has an empty job store, and skopeo an empty cache of blobs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from pusher.config import parse_size
from tests.benchmarks.archive import write_archive
from tests.benchmarks.measure import Cost, middle, run, run_skopeo, wipe
from tests.benchmarks.push import print_costs, skopeo
from tests.support.docker_registry import DockerRegistry

Copy = Callable[[str, str], Cost]
"""Copies the image at one reference to another."""


def with_pusher(home: Path) -> Copy:
    """`pusher push docker://...` with an empty job store."""
    env = {"PUSHER_HOME": str(home), "DOCKER_CONFIG": str(home)}

    def copy(source: str, destination: str) -> Cost:
        shutil.rmtree(home, ignore_errors=True)
        run([sys.executable, "-m", "pusher", "db", "upgrade"], env)
        command = ["push", f"docker://{source}", "--to", destination, "--progress", "none"]
        return run([sys.executable, "-m", "pusher", *command], env)[0]

    return copy


def with_skopeo(folder: Path) -> Copy:
    """`skopeo copy`, with no login of the user's, six blobs at a time by itself."""
    login = folder / "auth.json"
    login.write_text("{}")
    command = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    command += ["--authfile", str(login)]
    return lambda source, destination: run_skopeo(
        [*command, f"docker://{source}", f"docker://{destination}"], folder
    )


@click.command()
@click.option("--size", default="500M", show_default=True, help="Bytes of the files in the image.")
@click.option("--rounds", default=5, show_default=True, help="Copies with each tool, in turn.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; needs six times the size.")
def main(size: str, rounds: int, folder: Path | None) -> None:
    """Compare pusher with skopeo. Prints medians; nothing depends on them."""
    for command in ("docker-registry", "skopeo"):
        if shutil.which(command) is None:
            raise SystemExit(f"{command} is not installed")
    os.environ.pop("PUSHER_DATABASE_URL", None)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-benchmark-", dir=folder)))
        archive = work / "image.tar"
        write_archive(archive, parse_size(size, "--size"))
        registries = []
        for name in ("source", "destination"):
            (work / name).mkdir()
            registries.append(stack.enter_context(DockerRegistry(work / name)))
        source, destination = registries
        original = f"{source.address}/benchmark/original:1"
        skopeo(archive, work)(original)
        archive.unlink()
        blobs = sum(path.stat().st_size for path in source.data.rglob("data"))
        print(f"image of {blobs:,} compressed bytes, 6 layers, {os.cpu_count()} processors")
        tools = {"pusher": with_pusher(work / "home"), "skopeo": with_skopeo(work)}
        costs: dict[str, list[Cost]] = {name: [] for name in tools}
        for number in range(rounds):
            for name, copy in tools.items():
                wipe(destination)
                costs[name].append(copy(original, f"{destination.address}/benchmark/{name}-{number}:1"))
                print(f"  round {number + 1}, {name}: {costs[name][-1].wall:.2f} s", file=sys.stderr)
    print_costs({name: middle(found) for name, found in costs.items()})


if __name__ == "__main__":
    main()
