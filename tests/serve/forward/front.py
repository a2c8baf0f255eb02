"""A forwarding ``pusher serve`` in this process, with a worker of its queue."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from pusher.reference import RegistryPath
from pusher.serve.access import Access
from pusher.serve.app import make_app
from pusher.serve.forward.api import ForwardingApi
from pusher.serve.forward.service import forwarding
from pusher.serve.metrics import MeteredProgress, Metrics
from pusher.store.records import RUNNABLE_STATES, BlobState, JobState
from tests.serve.served import Repository, Served, listening
from tests.support.home import Home


class Front(Served):
    """What clients push to. ``work``: whether the queue is worked from the beginning."""

    api: ForwardingApi

    def __init__(
        self, folder: Path, *, to: str | None = None, waits: bool = True, work: bool = True, **settings: Any
    ) -> None:
        super().__init__(folder)
        self._to = None if to is None else RegistryPath.parse(to)
        self._waits = waits
        self._work = work
        self._settings = settings
        self._idle = threading.Event()

    def start(self) -> None:
        self._stack = ExitStack()
        self.metrics = Metrics()
        self.home = self._stack.enter_context(Home(self.folder, **{"give_up_after": 0.2, **self._settings}))
        self.api = self._stack.enter_context(
            forwarding(
                self.home.store,
                self.home.settings,
                to=self._to,
                port=1,
                waits=self._waits,
                note=self.home.progress.note,
            )
        )
        self.port = self._stack.enter_context(
            listening(make_app(self.api, Access(is_local=True), self.metrics))
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self._end = threading.Event()
        self.home.progress = MeteredProgress(self.home.progress, self.metrics, self.home.store)  # type: ignore[assignment]
        self._thread = threading.Thread(target=self._drain, daemon=True)
        if self._work:
            self._thread.start()

    def work(self) -> None:
        """Work the queue from now on."""
        self._thread.start()

    def _drain(self) -> None:
        while not self._end.wait(0.02):
            if self.home.store.jobs.list(states=RUNNABLE_STATES) or self._has_blob_to_send():
                self.home.run()

    def _has_blob_to_send(self) -> bool:
        jobs = self.home.store.jobs.list(states=[JobState.RECEIVING])
        blobs = self.home.store.blobs.of_jobs([job.id for job in jobs])
        return any(blob.state is BlobState.READY for each in blobs.values() for blob in each)

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self.api.end()
        self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)

    def repository(self, registry: str, path: str) -> Repository:
        """A repository of a registry, as clients call it here."""
        return Repository(self, f"{registry.replace(':', '_')}/{path}")


def push_in_background(
    repository: Repository, raw: bytes, reference: str
) -> tuple[threading.Thread, list[requests.Response]]:
    """Push a manifest in a thread; what it is answered comes into the list."""
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(repository.push(raw, reference)), daemon=True)
    thread.start()
    return thread, answers
