"""The threads that send blobs, shared by all jobs of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field


@dataclass(order=True)
class _Task:
    rank: tuple[int, ...]
    key: Hashable = field(compare=False)
    work: Callable[[], str | None] = field(compare=False)
    future: Future[str | None] = field(compare=False)


class BlobPool:
    """Runs tasks in the order of their rank, lowest first; never two with the same key at once.

    The key is the blob at a registry: a second job that needs it waits without holding a thread, then finds
    it there.
    """

    def __init__(self, threads: int) -> None:
        self._changed = threading.Condition()
        self._tasks: list[_Task] = []
        self._busy: set[Hashable] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"blob-{number}", daemon=True)
            for number in range(threads)
        ]
        for number, thread in enumerate(self._threads):
            try:
                thread.start()
            except RuntimeError:  # no more of them to be had: fewer will do
                if number == 0:
                    raise
                del self._threads[number:]
                break

    def submit(
        self, key: Hashable, rank: tuple[int, ...], work: Callable[[], str | None]
    ) -> Future[str | None]:
        """Have ``work`` done; the future gives what it returns or raises."""
        task = _Task(rank, key, work, Future())
        with self._changed:
            self._tasks.append(task)
            self._tasks.sort()
            self._changed.notify()
        return task.future

    def close(self) -> None:
        """Finish what is running and what is queued (stopped tasks leave at once), then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> _Task | None:
        with self._changed:
            while True:
                free = next((task for task in self._tasks if task.key not in self._busy), None)
                if free is not None:
                    self._tasks.remove(free)
                    self._busy.add(free.key)
                    return free
                if self._closed and not self._tasks:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task.future.set_result(task.work())
            except BaseException as error:  # the future carries it to whoever waits
                task.future.set_exception(error)
            finally:
                with self._changed:
                    self._busy.discard(task.key)
                    self._changed.notify_all()
