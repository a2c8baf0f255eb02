"""How long pusher takes to start, and to look at a job store with 10,000 finished jobs.

python -m tests.benchmarks.start
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from pusher.store.migrate import upgrade
from pusher.store.store import Store
from pusher.store.url import sqlite_url
from tests.benchmarks.measure import Cost, middle, run
from tests.support.finished_jobs import add_finished_jobs

_COMMANDS: Sequence[tuple[Sequence[str], float | None]] = (
    (("--help",), 0.2),
    (("--version",), 0.2),
    (("status",), 0.7),
    (("status", "--json"), 0.7),
    (("status", "--all"), None),
)
"""Arguments, and the seconds that they should take at most."""


@click.command()
@click.option("--jobs", default=10_000, show_default=True, help="Finished jobs in the job store.")
@click.option("--rounds", default=9, show_default=True, help="Starts of each command, in turn.")
def main(jobs: int, rounds: int) -> None:
    """Time pusher's quick commands. Prints medians; nothing depends on them."""
    os.environ.pop("PUSHER_DATABASE_URL", None)
    with tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as home:
        url = sqlite_url(Path(home) / "jobs.db")
        upgrade(url)
        with Store.open(url) as store:
            add_finished_jobs(store, jobs)
        commands = {"python alone": [sys.executable, "-c", "pass"]}
        commands |= {f"pusher {' '.join(a)}": [sys.executable, "-m", "pusher", *a] for a, _ in _COMMANDS}
        costs = {
            name: middle(found) for name, found in _in_turn(commands, rounds, {"PUSHER_HOME": home}).items()
        }
    targets = {f"pusher {' '.join(arguments)}": target for arguments, target in _COMMANDS}
    print(f"{jobs:,} finished jobs\n{'':24}{'wall s':>9}{'cpu s':>9}{'target s':>10}")
    for name, cost in costs.items():
        target = targets.get(name)
        print(f"{name:24}{cost.wall:9.3f}{cost.cpu:9.3f}{target or '':>10}")


def _in_turn(commands: dict[str, list[str]], rounds: int, env: dict[str, str]) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            costs[name].append(run(command, env)[0])
    return costs


if __name__ == "__main__":
    main()
