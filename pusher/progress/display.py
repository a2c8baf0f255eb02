"""Choose a display, and draw it in its own thread."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final, Literal, Protocol, Self, TextIO

from pusher.progress.counters import Counters

Mode = Literal["auto", "tty", "lines", "json", "none"]

_REDRAW: Final = 0.2


class _Renderer(Protocol):
    def render(self) -> None: ...

    def close(self) -> None: ...


def choose_mode(mode: Mode, stream: TextIO) -> Mode:
    """Resolve ``auto``: ``tty`` on a terminal that can move its cursor, else ``lines``."""
    if mode != "auto":
        return mode
    return "tty" if stream.isatty() and os.environ.get("TERM") != "dumb" else "lines"


class Display:
    """Draw ``progress``, which a worker calls, on ``stream`` until the context ends.

    ``single``: the caller prints how each job ended. ``several``: as in ``Lines``. A broken output ends the
    display, never the worker.
    """

    def __init__(self, mode: Mode, stream: TextIO, *, single: bool = False, several: bool = False) -> None:
        self.progress = Counters()
        self._renderer = _renderer(choose_mode(mode, stream), self.progress, stream, single, several)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_draw, args=(self._renderer, self._stop), name="progress", daemon=True
        )

    def __enter__(self) -> Self:
        if self._renderer is not None:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self, timeout: float | None = None) -> bool:
        """Draw the last events and clear the rest; return whether that is done.

        False after ``timeout`` seconds: an output that blocks, such as a terminal after Ctrl-S, blocks the
        thread that draws.
        """
        self._stop.set()
        if self._renderer is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()


def _renderer(
    mode: Mode, counters: Counters, stream: TextIO, single: bool, several: bool
) -> _Renderer | None:
    if mode == "tty":
        from pusher.progress.terminal import Terminal

        return Terminal(counters, stream, single=single)
    if mode == "lines":
        from pusher.progress.lines import Lines

        return Lines(counters, stream, single=single, several=several)
    if mode == "json":
        from pusher.progress.json_lines import JsonLines

        return JsonLines(counters, stream)
    return None


def _draw(renderer: _Renderer, stop: threading.Event) -> None:
    # A closed pipe or terminal (OSError, ValueError) ends the drawing; the work continues.
    with contextlib.suppress(OSError, ValueError):
        while not stop.wait(_REDRAW):
            renderer.render()
    with contextlib.suppress(OSError, ValueError):
        renderer.close()
