"""Run the user's commands when jobs end or wait: ``[hooks]`` in ``pusher.toml``.

A hook is run at most once for each end of a job, by the worker that recorded the end. What goes wrong with a
hook is an event of the job, and changes nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pusher.config.child_environment import hook_environment
from pusher.config.settings import HookSettings
from pusher.dataclass import dataclass
from pusher.errors import JobUnknown, PusherError
from pusher.secret import redact_secrets
from pusher.store.records import JobRecord
from pusher.store.store import Store
from pusher.text import as_json, printable
from pusher.units import human_seconds
from pusher.waiting import NOTICE_AFTER
from pusher.worker.hook_process import HookProcess
from pusher.worker.job_json import describe_jobs

_LOG = logging.getLogger(__name__)
_STOPPING: Final = 10.0
"""Seconds for all hooks that are left when the worker is asked to stop."""
_MAX_OUTPUT: Final = 500
"""Characters of a hook's output that are kept."""


@dataclass(frozen=True)
class _Call:
    """A hook to be run for a job."""

    name: str
    command: str
    job_id: int
    data: bytes


class Hooks:
    """The hooks of one worker, run one after another in a thread of their own. Thread-safe.

    ``workers``: the folder of the workers' lock files. ``note`` is called if the end of a run waits for them.
    """

    def __init__(
        self, settings: HookSettings, store: Store, workers: Path, note: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._store = store
        self._workers = workers
        self._note = note
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._running: tuple[_Call, HookProcess] | None = None
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def run_success(self, job: JobRecord) -> None:
        """Run ``on_success`` for a job that has just succeeded."""
        self._start("on_success", self._settings.on_success, job.id)

    def run_failure(self, job: JobRecord) -> None:
        """Run ``on_failure`` for a job that has just failed."""
        self._start("on_failure", self._settings.on_failure, job.id)

    def run_waiting(self, job: JobRecord, error: PusherError, *, for_user: bool) -> None:
        """Run ``on_waiting`` for a job that has just begun to wait, or waits again, once for each wait.

        ``for_user``: only the user can end it; otherwise the hook is run once it has lasted for long.
        """
        if self._settings.on_waiting is None:
            return
        after = 0.0 if for_user else self._settings.waiting_after
        if self._store.jobs.take_wait_report(job, error.code, after=after):
            self._start("on_waiting", self._settings.on_waiting, job.id)

    def _start(self, name: str, command: str | None, job_id: int) -> None:
        if command is None:
            return
        with contextlib.suppress(JobUnknown):  # it was pruned at once
            for described in describe_jobs(self._store, [self._store.jobs.get(job_id)], self._workers):
                self._add(_Call(name, command, job_id, as_json(described, indent=2).encode() + b"\n"))

    def _add(self, call: _Call) -> None:
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="hooks", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system starts no more threads
                    self._record(call, f"could not be started: {error}")
                    return
                self._thread = thread
            self._calls.append(call)
            self._changed.notify_all()

    def close(self, stopping: Callable[[], bool]) -> None:
        """Wait for the hooks, each for its time limit; some seconds for all of them once ``stopping``.

        Those that are left are ended or not run, which is an event of their jobs.
        """
        asked_at: float | None = None
        closed_at, noted = time.monotonic(), False
        with self._changed:
            while self._calls or self._running:
                now = time.monotonic()
                if stopping() and asked_at is None:
                    asked_at = now
                if asked_at is not None and now - asked_at >= _STOPPING:
                    break
                is_long = asked_at is not None or now - closed_at >= NOTICE_AFTER
                if is_long and not noted:
                    noted = True
                    limit = self._settings.timeout if asked_at is None else _STOPPING
                    self._note(self._describe_wait(limit))
                self._changed.wait(0.1)
            left, running = list(self._calls), self._running
            self._calls.clear()
            self._is_stopped = True
            self._changed.notify_all()
            thread = self._thread
        for call in left:
            self._record(call, "was not run, because the worker was stopped")
        if running is not None:
            running[1].stop()
        if thread is not None:
            thread.join()

    def _describe_wait(self, limit: float) -> str:
        if self._running is None:
            return "waiting for hooks"
        call, _ = self._running
        return f"waiting up to {human_seconds(limit)} for the hook {call.name} of job {call.job_id}"

    def _work(self) -> None:
        """Run calls until the worker is closed."""
        while True:
            with self._changed:
                while not self._calls and not self._is_stopped:
                    self._changed.wait()
                if not self._calls:
                    return
                call = self._calls.popleft()
                process = HookProcess(call.command, call.data, hook_environment())
                self._running = call, process
            try:
                self._run(call, process)
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()

    def _run(self, call: _Call, process: HookProcess) -> None:
        try:
            end = process.run(self._settings.timeout)
        except Exception as error:  # whatever it is: the run waits for this thread at its end
            self._record(call, f"could not be started: {error}")
            return
        if end.is_stopped:
            self._record(call, "was ended, because the worker was stopped", end.output)
        elif end.exit_code is None:
            limit = human_seconds(self._settings.timeout)
            self._record(call, f"was ended, because it ran for longer than {limit}", end.output)
        elif end.exit_code < 0:
            self._record(call, f"was ended by signal {-end.exit_code}", end.output)
        elif end.exit_code > 0:
            self._record(call, f"ended with exit code {end.exit_code}", end.output)
        else:
            _LOG.info("%s of job %s has run", call.name, call.job_id)

    def _record(self, call: _Call, what: str, output: bytes = b"") -> None:
        """Record what went wrong; if even that is not possible, log it."""
        said = redact_secrets(" ".join(output.decode("utf-8", "replace").split()))
        text = printable(f"{call.name} {what}" + (f": {said}" if said else ""), _MAX_OUTPUT)
        _LOG.info("job %s: %s", call.job_id, text)
        with contextlib.suppress(PusherError):
            self._store.events.add(call.job_id, "hook", text)
