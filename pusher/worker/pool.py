"""Run tasks in threads that send blobs, shared by all jobs of a worker."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final

from pusher.dataclass import dataclass


@dataclass(eq=False)
class _Task:
    rank: tuple[int, ...]
    key: Hashable
    work: Callable[[], str | None]
    future: Future[str | None]
    is_quick: bool
    after: Future[str | None] | None = None
    """A task that has to end before this one may start."""
    thread: int | None = None
    """Ident of the thread that runs it; None if a quick thread does, or none yet."""

    @property
    def may_start(self) -> bool:
        return self.after is None or self.after.done()


_CHECK_EVERY: Final = 0.1
"""Seconds between two checks of a task that waits."""
_MAX_LENT: Final = 3
"""How many times the usual threads may be added while others wait for a response."""


def _registry(key: Hashable) -> Hashable:
    return key[0] if isinstance(key, tuple) else key


class BlobPool:
    """Runs tasks in the order of their rank, lowest first; never two with the same key at once.

    The key is the blob at a registry: a second job that needs it waits without holding a thread, then finds
    it there. ``quick`` threads run only quick tasks, which take a few responses: these need not wait until a
    large blob is sent.
    """

    def __init__(self, threads: int, quick: int = 0) -> None:
        self._changed = threading.Condition()
        self._tasks: list[_Task] = []
        self._running: list[_Task] = []
        self._closed = False
        self._size = self._quick = self._lent = 0
        self._alive = self._alive_quick = 0
        self._threads: list[threading.Thread] = []
        self.resize(threads, quick)

    def resize(self, threads: int, quick: int) -> None:
        """Change the number of threads. With fewer, uploads that ``wait_while_surplus`` pause where they can
        be continued, those of the highest rank first.

        Raises RuntimeError if the system does not start a single thread.
        """
        with self._changed:
            self._size, self._quick = threads, quick
            while self._alive < self._size:
                try:
                    self._start_thread(self._work, "blob")
                except RuntimeError:  # the system starts no more threads: continue with fewer
                    if not self._alive:
                        raise
                    self._size = self._alive
                    break
                self._alive += 1
            with contextlib.suppress(RuntimeError):
                while self._alive_quick < self._quick:
                    self._start_thread(self._work_quick, "quick")
                    self._alive_quick += 1
            self._changed.notify_all()

    def _start_thread(self, work: Callable[[], None], kind: str) -> None:
        """Start a thread. Raises RuntimeError."""
        thread = threading.Thread(target=work, name=f"{kind}-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def wait_while_surplus(self, check: Callable[[], None]) -> None:
        """Wait, in a thread that runs a task, while fewer tasks are to run than do and this one comes last.

        ``check`` is called meanwhile; an exception from it ends the wait.
        """
        while True:
            with self._changed:
                if not self._is_surplus(threading.get_ident()):
                    return
                self._changed.wait(_CHECK_EVERY)
            check()

    def _is_surplus(self, thread: int) -> bool:
        running = [task for task in self._running if task.thread is not None]
        if len(running) <= self._size + self._lent:
            return False
        running.sort(key=lambda task: task.rank)
        return any(task.thread == thread for task in running[self._size + self._lent :])

    def lend_threads(self, places: int) -> None:
        """Run ``places`` more threads while that many tasks wait for a response, up to ``_MAX_LENT`` times
        the usual number."""
        with self._changed:
            self._lent = min(places, _MAX_LENT * self._size)
            self._changed.notify_all()
            while self._alive < self._size + self._lent and self._pick():
                try:
                    self._start_thread(self._work, "blob")
                except RuntimeError:  # the system starts no more threads
                    return
                self._alive += 1
                self._changed.wait(0.01)  # until it has taken its task, which counts

    @property
    def is_free(self) -> bool:
        """Whether a task that is submitted now starts at once."""
        with self._changed:
            return self._alive <= self._size + self._lent and (self._lent > 0 or not self._tasks)

    def _pick(self) -> _Task | None:
        """Return the next task; with lent threads one of the registry that has the fewest, so that a registry
        that does not respond cannot block these as well."""
        busy = self._busy()
        free = (task for task in self._tasks if task.key not in busy and task.may_start)
        if not self._lent:
            return next(free, None)
        at_work = Counter(map(_registry, busy))
        free = (task for task in free if at_work[_registry(task.key)] < self._size)
        return min(free, key=lambda task: (at_work[_registry(task.key)], task.rank), default=None)

    def _pick_quick(self) -> _Task | None:
        busy = self._busy()
        return next(
            (task for task in self._tasks if task.is_quick and task.key not in busy and task.may_start), None
        )

    def _busy(self) -> set[Hashable]:
        return {task.key for task in self._running}

    def submit(
        self,
        key: Hashable,
        rank: tuple[int, ...],
        work: Callable[[], str | None],
        *,
        is_quick: bool = False,
        after: Future[str | None] | None = None,
    ) -> Future[str | None]:
        """Queue ``work``, to be started once ``after`` has ended; return the future of its result."""
        task = _Task(rank, key, work, Future(), is_quick, after)
        with self._changed:
            self._tasks.append(task)
            self._tasks.sort(key=lambda task: task.rank)
            self._changed.notify_all()
        return task.future

    def change_key(self, future: Future[str | None], key: Hashable) -> bool:
        """Change the key of a running task; return False if it is not running, or another one has the key."""
        with self._changed:
            task = next((task for task in self._running if task.future is future), None)
            if task is None or key in self._busy():
                return False
            task.key = key
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Finish running and queued tasks (stopped ones return at once), then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> _Task | None:
        with self._changed:
            while True:
                if self._alive > self._size + self._lent:  # lent threads end
                    self._alive -= 1
                    return None
                if (free := self._take(self._pick())) is not None:
                    free.thread = threading.get_ident()
                    return free
                if self._closed and not self._tasks:
                    return None
                self._changed.wait()

    def _next_quick(self) -> _Task | None:
        with self._changed:
            while True:
                if self._alive_quick > self._quick:
                    self._alive_quick -= 1
                    return None
                if (free := self._take(self._pick_quick())) is not None:
                    return free
                if self._closed:
                    return None
                self._changed.wait()

    def _take(self, task: _Task | None) -> _Task | None:
        if task is not None:
            self._tasks.remove(task)
            self._running.append(task)
        return task

    def _work(self) -> None:
        while (task := self._next()) is not None:
            self._run(task)

    def _work_quick(self) -> None:
        while (task := self._next_quick()) is not None:
            self._run(task)

    def _run(self, task: _Task) -> None:
        try:
            task.future.set_result(task.work())
        except BaseException as error:  # the future raises it in the waiting thread
            task.future.set_exception(error)
        finally:
            with self._changed:
                self._running.remove(task)
                self._changed.notify_all()
