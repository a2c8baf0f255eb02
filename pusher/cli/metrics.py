"""Implement ``--metrics``: serve metrics for Prometheus while a command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from pusher.cli.output import print_notice
from pusher.errors import InvalidOption

if TYPE_CHECKING:
    from pusher.progress.base import Progress
    from pusher.store.store import Store

metrics_option = click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Show figures for Prometheus at http://HOST:PORT/metrics, an address of this machine alone.",
)


@contextmanager
def serve_metrics(store: Store, at: str | None) -> Iterator[Callable[[Progress], Progress]]:
    """Serve the metrics at an address (None: do not) until the context ends; yield a function that counts
    a worker's progress. Raises InvalidOption, ListenFailed."""
    if at is None:
        yield lambda progress: progress
        return
    from pusher.serve.access import Access
    from pusher.serve.app import make_app
    from pusher.serve.metrics import MeteredProgress, Metrics
    from pusher.serve.server import Address, open_sockets, server_in_background

    address = Address.parse(at, "--metrics", example_port=9155)
    if not address.is_local:
        raise InvalidOption(
            f"everybody who can reach {address} could read the metrics",
            hint="show them at 127.0.0.1, as 127.0.0.1:9155",
        )
    metrics = Metrics()
    metrics.watch_queue(store)
    sockets = open_sockets(address)
    port = sockets[0].getsockname()[1]
    with server_in_background(make_app(None, Access(is_local=True), metrics), sockets):
        print_notice(f"Figures for Prometheus are at http://{address.at(port)}/metrics")
        yield partial(MeteredProgress, metrics=metrics, store=store)
