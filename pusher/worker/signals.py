"""Handle Ctrl-C, SIGTERM and SIGHUP: first finish the chunks in flight; on a second signal exit at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import FrameType
from typing import Final

from pusher.units import human_bytes

_ONE_REQUEST: Final = 0.25
"""Seconds within which a second SIGTERM counts as the first: timeout(1) sends one to the process, and one to
its group."""
_ASKED: Final = {
    signal.SIGINT: "stopping after the chunks in flight; press Ctrl-C again to stop now",
    signal.SIGTERM: "received SIGTERM: stopping after the chunks in flight",
    signal.SIGHUP: "the terminal was closed: stopping after the chunks in flight",
}


class ReceivedSignals:
    """The signals received; ``number`` is the first, 0 if there was none."""

    number = 0


@contextlib.contextmanager
def handle_signals(
    first: Callable[[], None],
    leave: Callable[[], None] = lambda: None,
    *,
    note: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    at_stake: Callable[[], int] = lambda: 0,
) -> Iterator[ReceivedSignals]:
    """Call ``first`` at the first SIGINT, SIGTERM or SIGHUP; at the next SIGINT or SIGTERM call ``leave`` and
    exit with its exit code, but if ``at_stake`` bytes must then be sent again, say so and wait for one more.

    Exiting there is safe: acknowledged offsets and chunks in flight are stored, and leases of a dead process
    are free. SIGHUP stays ignored if it was at the start (nohup). Outside the main thread nothing is
    installed.
    """
    seen = ReceivedSignals()
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    # the one thing that a signal handler may put into: signals, each with its time
    arrived: SimpleQueue[tuple[int, float]] = SimpleQueue()

    def handle(number: int, _frame: FrameType | None) -> None:
        if not seen.number:
            seen.number = number
            first()
        arrived.put((number, time.monotonic()))

    def answer() -> None:
        """Handle signals in a thread: notes take locks that the interrupted thread may hold."""
        before, since = arrived.get()
        if not before:
            return
        note(_ASKED[signal.Signals(before)])
        warned = False
        while True:
            number, at = arrived.get()
            if not number:
                return
            if number == before == signal.SIGTERM and at - since < _ONE_REQUEST:
                continue
            before, since = number, at
            if number == signal.SIGHUP:  # a terminal that closes may send several, from the shell and itself
                continue
            cost = 0 if warned else at_stake()
            if cost:
                warned = True
                note(_warning(cost, number))
                continue
            leave()
            os._exit(128 + number)

    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    thread = threading.Thread(target=answer, name="signals", daemon=True)
    thread.start()
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put((0, 0.0))
        thread.join()


def _warning(cost: int, number: int) -> str:
    again = "press Ctrl-C once more" if number == signal.SIGINT else "send the signal once more"
    return (
        f"{human_bytes(cost)} would have to be sent again: waiting for the chunks in flight; "
        f"{again} to stop anyway"
    )
