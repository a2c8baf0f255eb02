"""How long pusher takes to start, to look at 10,000 finished jobs, and to push what is there already.

python -m tests.benchmarks.start
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from pusher.config.load import sqlite_url
from pusher.store.migrate import upgrade
from pusher.store.store import Store
from tests.benchmarks.measure import MIB, Cost, middle, run
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.finished_jobs import add_finished_jobs
from tests.support.images import make_image, write_archive

_COMMANDS: Sequence[tuple[Sequence[str], float | None]] = (
    (("--help",), 0.2),
    (("--version",), 0.2),
    (("status",), 0.2),
    (("status", "--json"), 0.2),
    (("status", "--all"), None),
)
_AGAIN: Final = "second push"
"""Arguments, and the seconds that they should take at most."""


@click.command()
@click.option("--jobs", default=10_000, show_default=True, help="Finished jobs in the job store.")
@click.option("--rounds", default=9, show_default=True, help="Starts of each command, in turn.")
def main(jobs: int, rounds: int) -> None:
    """Time pusher's quick commands. Prints medians; nothing depends on them."""
    os.environ.pop("PUSHER_DATABASE_URL", None)
    with (
        tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as home,
        FakeRegistry(DISTRIBUTION_3) as registry,
    ):
        url = sqlite_url(Path(home) / "jobs.db")
        upgrade(url)
        with Store.open(url) as store:
            add_finished_jobs(store, jobs)
        commands = {"python alone": [sys.executable, "-c", "pass"]}
        commands |= {f"pusher {' '.join(a)}": [sys.executable, "-m", "pusher", *a] for a, _ in _COMMANDS}
        archive = write_archive(Path(home) / "app.tar", make_image(70_000, 15_000, 300))
        push = [
            "push",
            f"docker-archive:{archive}",
            "--to",
            f"{registry.address}/app:1",
            "--progress",
            "none",
        ]
        commands[_AGAIN] = [sys.executable, "-m", "pusher", *push]
        run(commands[_AGAIN], {"PUSHER_HOME": home})  # the first one sends it
        costs = {
            name: middle(found) for name, found in _in_turn(commands, rounds, {"PUSHER_HOME": home}).items()
        }
    targets = {f"pusher {' '.join(arguments)}": target for arguments, target in _COMMANDS}
    targets[_AGAIN] = 0.4
    print(f"{jobs:,} finished jobs\n{'':24}{'wall s':>9}{'cpu s':>9}{'MiB':>7}{'target s':>10}")
    for name, cost in costs.items():
        target = targets.get(name)
        print(f"{name:24}{cost.wall:9.3f}{cost.cpu:9.3f}{cost.memory / MIB:7.0f}{target or '':>10}")


def _in_turn(commands: dict[str, list[str]], rounds: int, env: dict[str, str]) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            costs[name].append(run(command, env)[0])
    return costs


if __name__ == "__main__":
    main()
