"""Choose a display and keep it drawn from one thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol, TextIO

from pusher.progress.counters import Counters

Mode = Literal["auto", "tty", "lines", "json", "none"]

_REDRAW: Final = 0.2


class _Renderer(Protocol):
    def render(self) -> None: ...

    def close(self) -> None: ...


def chosen(mode: Mode, stream: TextIO) -> Mode:
    """What ``auto`` comes to: ``tty`` on a terminal that can move its cursor, else ``lines``."""
    if mode != "auto":
        return mode
    return "tty" if stream.isatty() and os.environ.get("TERM") != "dumb" else "lines"


@contextmanager
def make_progress(mode: Mode, stream: TextIO, *, single: bool = False) -> Iterator[Counters]:
    """The progress to hand to a worker; drawn on ``stream`` until the context is left.

    ``single``: the run is about one job, and the caller says how it ended. An output that breaks ends the
    display, never the work.
    """
    counters = Counters()
    renderer = _renderer(chosen(mode, stream), counters, stream, single)
    if renderer is None:
        yield counters
        return
    stop = threading.Event()
    thread = threading.Thread(target=_draw, args=(renderer.render, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield counters
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError, ValueError):
            renderer.close()


def _renderer(mode: Mode, counters: Counters, stream: TextIO, single: bool) -> _Renderer | None:
    if mode == "tty":
        from pusher.progress.terminal import Terminal

        return Terminal(counters, stream, single=single)
    if mode == "lines":
        from pusher.progress.lines import Lines

        return Lines(counters, stream, single=single)
    if mode == "json":
        from pusher.progress.json_lines import JsonLines

        return JsonLines(counters, stream)
    return None


def _draw(render: Callable[[], None], stop: threading.Event) -> None:
    # A closed pipe or terminal (OSError, ValueError) ends the drawing; the work goes on.
    with contextlib.suppress(OSError, ValueError):
        while not stop.wait(_REDRAW):
            render()
