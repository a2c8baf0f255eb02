"""Pushing real files over a slow link: pusher beside skopeo, docker, crane and regctl.

python -m tests.benchmarks.link [--rate 5M] [--round-trip 50] [--layers 1] [--size 250M] [--compressed]

For each rate and round-trip time it prints the wall time, the bytes on the wire, the time that the wire alone
needs for those bytes, and the ratios to both skopeo's time and the wire's.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

import click

from pusher.config import parse_size
from tests.benchmarks.archive import image_entries
from tests.benchmarks.measure import MIB, Cost, run, run_skopeo, wipe
from tests.support.docker_registry import DockerRegistry
from tests.support.shaped_link import ShapedLink

_FILES: Final = (Path(sys.base_prefix, "lib"), Path("/usr/lib"), Path("/usr/share"))
"""Where real files are taken from, in this order."""
_LEARNED_FROM: Final = 80_000_000
"""Bytes of the files in the image that is pushed to learn the link."""
_IMAGE: Final = "localhost/benchmark:1"


@dataclass(frozen=True)
class Run:
    """One push: what it cost, and the bytes that went to the registry."""

    cost: Cost
    sent: int


Push = Callable[[str], Cost]
"""Push the archive to ``HOST:PORT/repository:tag``."""


def real_files(size: int) -> Iterator[tuple[Path, int]]:
    """Yield regular files of this machine, about ``size`` bytes in all, always in the same order."""
    for top in _FILES:
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
                    continue
                yield path, status.st_size
                size -= status.st_size
                if size <= 0:
                    return


def write_archive(path: Path, size: int, layers: int) -> None:
    """Write a docker-archive of real files, ``size`` bytes in ``layers`` layers of about the same size."""
    diff_ids: list[str] = []
    files = real_files(size)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(layers):
            layer = path.with_name(f"layer-{number}.tar")
            write_layer(layer, files, size // layers)
            with layer.open("rb") as file:
                diff_ids.append(f"sha256:{_digest(layer)}")
                archive.addfile(archive.gettarinfo(str(layer), f"{number:064x}/layer.tar"), file)
            layer.unlink()
        for entry, data in image_entries(diff_ids, _IMAGE):
            archive.addfile(entry, io.BytesIO(data))


def write_layer(path: Path, files: Iterator[tuple[Path, int]], size: int) -> None:
    """Write a layer's tar of ``files``, of at least ``size`` bytes if there are enough."""
    left = size
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for file, length in files:
            tar.add(file, recursive=False)
            left -= length
            if left <= 0:
                return


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def compress(archive: Path, layout: Path) -> None:
    """Copy the archive's image to an OCI image layout, whose layers are compressed."""
    subprocess.run(["skopeo", "copy", "--quiet", f"docker-archive:{archive}", f"oci:{layout}:1"], check=True)


def tools(image: str, work: Path, names: Sequence[str]) -> dict[str, Push]:
    """Return the tools among ``names`` that are installed and read ``image``."""
    login = work / "login"
    login.mkdir(exist_ok=True)
    (login / "config.json").write_text("{}")
    env = {"PUSHER_HOME": str(work / "home"), "DOCKER_CONFIG": str(login)}

    def pusher(reference: str) -> Cost:
        command = [sys.executable, "-m", "pusher", "push", image, "--to", reference]
        return run([*command, "--progress", "none"], env)[0]

    def skopeo(reference: str) -> Cost:
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
        command += ["--authfile", str(login / "config.json")]
        command += [image, f"docker://{reference}"]
        return run_skopeo(command, work)

    def crane(reference: str) -> Cost:
        return run(["crane", "push", "--insecure", path, reference], env)[0]

    def regctl(reference: str) -> Cost:
        host = reference.partition("/")[0]
        run(["regctl", "registry", "set", "--tls=disabled", host], env)
        return run(["regctl", "image", "import", reference, path], env)[0]

    kind, _, path = image.partition(":")
    every: dict[str, Push] = {"pusher": pusher, "skopeo": skopeo}
    if kind == "docker-archive":
        every |= {"crane": crane, "regctl": regctl}
    return {name: push for name, push in every.items() if name in names and _is_installed(name)}


def _is_installed(name: str) -> bool:
    return name == "pusher" or shutil.which(name) is not None


@click.command()
@click.option("--size", default="250M", show_default=True, help="Bytes of the files in the image.")
@click.option("--layers", default=1, show_default=True, help="Layers of the image.")
@click.option("--rate", "rates", default=["1M", "5M", "40M"], multiple=True, help="Bytes per second.")
@click.option("--round-trip", "trips", default=[0, 50, 150], multiple=True, help="Milliseconds.")
@click.option("--compressed", is_flag=True, help="Push from an OCI layout: only sending counts.")
@click.option("--known", is_flag=True, help="pusher has pushed another image over the link before.")
@click.option("--rounds", default=1, show_default=True, help="Pushes with each tool, in turn.")
@click.option("--tool", "names", multiple=True, help="Only this tool: pusher, skopeo, crane, regctl.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; needs six times the size.")
def main(
    size: str,
    layers: int,
    rates: tuple[str, ...],
    trips: tuple[int, ...],
    compressed: bool,
    known: bool,
    rounds: int,
    names: tuple[str, ...],
    folder: Path | None,
) -> None:
    """Compare pusher with others on slow links. Prints medians; nothing depends on them."""
    if shutil.which("docker-registry") is None:
        raise SystemExit("docker-registry is not installed")
    os.environ.pop("PUSHER_DATABASE_URL", None)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-benchmark-", dir=folder)))
        archive = work / "image.tar"
        write_archive(archive, parse_size(size, "--size"), layers)
        length = archive.stat().st_size
        print(f"docker-archive of {length:,} bytes, layers: {layers}, processors: {os.cpu_count()}")
        registry = stack.enter_context(DockerRegistry(work))
        image = f"docker-archive:{archive}"
        if compressed:
            compress(archive, work / "layout")
            image = f"oci:{work / 'layout'}:1"
        pushes = tools(image, work, names or ("pusher", "skopeo", "crane", "regctl"))
        other = work / "other.tar"
        if known:
            write_archive(other, _LEARNED_FROM, 1)
        push_other = tools(f"docker-archive:{other}", work, ["pusher"])["pusher"]

        def prepare(name: str, address: str) -> None:
            shutil.rmtree(work / "home", ignore_errors=True)
            if known and name == "pusher":
                push_other(f"{address}/benchmark/other:1")

        for rate in rates:
            for trip in trips:
                speed = parse_size(rate, "--rate")
                print(f"\n{rate}B/s, {trip} ms")
                with ShapedLink(registry.address, rate=speed, round_trip=trip / 1000) as link:
                    runs = _measure(pushes, prepare, registry, link, rounds)
                _print(runs, speed)


def _measure(
    pushes: dict[str, Push],
    prepare: Callable[[str, str], None],
    registry: DockerRegistry,
    link: ShapedLink,
    rounds: int,
) -> dict[str, list[Run]]:
    """Measure each of ``pushes`` after ``prepare``, which gets the tool's name and the link's address."""
    runs: dict[str, list[Run]] = {name: [] for name in pushes}
    for number in range(rounds):
        for name, push in pushes.items():
            prepare(name, link.address)
            wipe(registry)
            link.reset()
            cost = push(f"{link.address}/benchmark/{name}-{number}:1")
            runs[name].append(Run(cost, link.bytes_sent))
    return runs


def _print(runs: dict[str, list[Run]], rate: int) -> None:
    heads = ("wall s", "wire MiB", "wire s", "of wire", "of skopeo", "cpu s", "peak MiB")
    print(" " * 10 + "".join(f"{head:>11}" for head in heads))
    skopeo = median(run.cost.wall for run in runs["skopeo"]) if "skopeo" in runs else None
    for name, several in runs.items():
        wall = median(run.cost.wall for run in several)
        sent = median(run.sent for run in several)
        memory = max(run.cost.memory for run in several) / MIB
        of_skopeo = f"{wall / skopeo:.2f}" if skopeo else "-"
        cells = (
            f"{wall:.2f}",
            f"{sent / MIB:.1f}",
            f"{sent / rate:.2f}",
            f"{wall / (sent / rate):.2f}",
            of_skopeo,
            f"{median(run.cost.cpu for run in several):.2f}",
            f"{memory:.0f}",
        )
        print(f"{name:10}" + "".join(f"{cell:>11}" for cell in cells))


if __name__ == "__main__":
    main()
