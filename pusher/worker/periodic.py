"""Call a function again and again in the background, while something else runs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from pusher.errors import PusherError

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def calling_every(seconds: float, step: Callable[[], None], *, name: str) -> Iterator[None]:
    """Call ``step`` every ``seconds`` in a thread of its own, until the context ends; it waits for a call
    that has begun.

    A step that fails is called again at the next time, whatever the error: leases must be renewed even where
    something else is at fault. Raises RuntimeError if the system starts no more threads.
    """
    done = threading.Event()

    def work() -> None:
        while not done.wait(seconds):
            try:
                step()
            except PusherError:  # the job store is away, or the disk is full
                pass
            except Exception:
                _LOG.exception("%s failed; it continues", name)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
