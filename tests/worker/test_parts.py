"""The worker's small parts on their own: control, pool, identity, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.errors import ExitCode, HomeUnusable, LeaseLost, Stopped
from pusher.worker.control import Activity, Control
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.pool import BlobPool
from pusher.worker.signals import handle_signals
from tests.support.databases import new_job
from tests.support.home import Home
from tests.support.waiting import PATIENCE

# --- control ----------------------------------------------------------------------------------------------


def test_the_workers_control_stops_every_job() -> None:
    worker = Control()
    one, two = Control(worker), Control(worker)
    one.stop()
    two.check()
    with pytest.raises(Stopped):
        one.check()
    worker.stop()
    with pytest.raises(Stopped):
        two.check()


def test_a_lost_lease_says_more_than_a_stop() -> None:
    control = Control()
    control.stop()
    control.lose_lease()
    with pytest.raises(LeaseLost):
        control.check()


def test_a_wait_ends_when_somebody_asks() -> None:
    control = Control()
    threading.Timer(0.05, control.stop).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        control.wait(600)
    assert time.monotonic() - started < PATIENCE
    with pytest.raises(Stopped):
        control.wait(0)


def test_a_wait_lasts_as_long_as_asked() -> None:
    started = time.monotonic()
    Control().wait(0.12)
    assert 0.12 <= time.monotonic() - started < PATIENCE


def test_activity_counts_from_the_last_touch() -> None:
    activity = Activity()
    began = activity.last_progress
    time.sleep(0.02)
    assert activity.seconds_idle >= 0.02
    activity.record_progress()
    assert activity.last_progress >= began + 0.02
    assert activity.seconds_idle <= time.monotonic() - began - 0.02


# --- pool -------------------------------------------------------------------------------------------------


def _held(pool: BlobPool) -> threading.Event:
    """Keep the pool's only thread busy until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> str | None:
        begun.set()
        assert go_on.wait(PATIENCE)
        return None

    pool.submit("held", (0,), hold)
    assert begun.wait(PATIENCE)
    return go_on


def _noting(order: list[str], name: str) -> Callable[[], str | None]:
    return lambda: order.append(name)


def test_the_lowest_rank_goes_first() -> None:
    pool, order = BlobPool(1), list[str]()
    go_on = _held(pool)
    for name, rank in (("later", (0, 2)), ("first", (-5, 9)), ("next", (0, 1))):
        pool.submit(name, rank, _noting(order, name))
    go_on.set()
    pool.close()
    assert order == ["first", "next", "later"]


def test_one_key_is_never_worked_on_twice_at_once() -> None:
    pool, running, most = BlobPool(4), list[str](), list[int]()

    def work() -> str | None:
        running.append("x")
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return "done"

    futures = [pool.submit("same", (n,), work) for n in range(6)]
    assert [future.result(PATIENCE) for future in futures] == ["done"] * 6
    pool.close()
    assert max(most) == 1


def test_a_waiting_key_holds_no_thread() -> None:
    """The blob that another job sends does not keep others from being sent."""
    pool = BlobPool(2)
    go_on = _held(pool)
    waits = pool.submit("held", (0,), lambda: "second")
    assert pool.submit("other", (9,), lambda: "other").result(PATIENCE) == "other"
    assert not waits.done()
    go_on.set()
    assert waits.result(PATIENCE) == "second"
    pool.close()


def test_a_quick_task_is_not_queued_behind_a_large_blob() -> None:
    pool = BlobPool(1, quick=1)
    go_on = _held(pool)
    large = pool.submit("large", (1,), lambda: "large")
    assert pool.submit("small", (9,), lambda: "small", is_quick=True).result(PATIENCE) == "small"
    assert not large.done(), "a quick thread takes no other task"
    same = pool.submit("held", (0,), lambda: "same", is_quick=True)
    assert pool.submit("other", (9,), lambda: "other", is_quick=True).result(PATIENCE) == "other"
    assert not same.done(), "nor a second one with the same key"
    go_on.set()
    pool.close()
    assert (large.result(), same.result()) == ("large", "same")


def test_an_error_is_the_futures_and_not_the_threads() -> None:
    pool = BlobPool(1)

    def fail() -> str | None:
        raise LeaseLost("gone")

    assert isinstance(pool.submit("a", (0,), fail).exception(10), LeaseLost)
    assert pool.submit("a", (0,), lambda: "still alive").result(PATIENCE) == "still alive"
    pool.close()


def test_close_finishes_what_is_queued() -> None:
    pool, order = BlobPool(1), list[str]()
    go_on = _held(pool)
    futures = [pool.submit(str(n), (n,), _noting(order, str(n))) for n in range(3)]
    threading.Timer(0.02, go_on.set).start()
    pool.close()
    assert all(future.done() for future in futures)
    assert order == ["0", "1", "2"]


# --- identity ---------------------------------------------------------------------------------------------

_HOLD = """
import sys, time
from pathlib import Path
from pusher.store.store import Store
from pusher.worker.liveness import WorkerIdentity
with Store.open(sys.argv[1]) as store, WorkerIdentity(Path(sys.argv[2]), 60) as identity:
    store.jobs.claim(identity.owner, lease=60)
    print(identity.owner, flush=True)
    time.sleep(600)
"""


def _holder(home: Home) -> tuple[subprocess.Popen[str], str]:
    """A process that holds a job; its owner's name."""
    url, folder = home.settings.database_url, str(home.settings.workers)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, url, folder], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_worker_is_dead_once_its_process_is(home: Home) -> None:
    home.store.jobs.add(new_job())
    process, owner = _holder(home)
    with process, WorkerIdentity(home.settings.workers, 30) as identity:
        assert home.store.jobs.owners() == {owner}
        assert identity.find_dead_owners(home.store) == set()
        process.kill()
        process.wait()
        assert identity.find_dead_owners(home.store) == {owner}
        assert home.store.jobs.claim("me", lease=30, dead_owners={owner}) is not None


def test_a_host_that_has_another_name_by_now_knows_its_dead_workers(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop in another network; a container beside the one that was killed."""
    home.store.jobs.add(new_job())
    process, owner = _holder(home)
    monkeypatch.setattr(socket, "gethostname", lambda: "another-name")
    with process, WorkerIdentity(home.settings.workers, 30) as identity:
        assert identity.owner.startswith("another-name/")
        assert identity.find_dead_owners(home.store) == set()
        process.kill()
        process.wait()
        assert identity.find_dead_owners(home.store) == {owner}


def test_lock_files_are_swept_once_nothing_needs_them(home: Home) -> None:
    home.store.jobs.add(new_job())
    process, owner = _holder(home)
    lock = home.settings.workers / f"{owner.partition('/')[2]}.lock"
    with process, WorkerIdentity(home.settings.workers, 30) as identity:
        identity.release_dead_owners(home.store)
        process.kill()
        process.wait()
        identity.release_dead_owners(home.store)
        assert lock.exists(), "it is what tells that the lease binds nobody"
        assert home.store.jobs.claim("me", lease=30, dead_owners={owner}) is not None
        identity.release_dead_owners(home.store)
        assert not lock.exists()
        assert len(list(home.settings.workers.iterdir())) == 1, "our own"
    assert list(home.settings.workers.iterdir()) == []


def test_a_worker_starts_while_others_look_for_dead_ones(home: Home) -> None:
    """They lock the files of workers for a moment, and may meet one before its worker has locked it."""
    end = threading.Event()

    def look(identity: WorkerIdentity) -> None:
        while not end.is_set():
            identity.release_dead_owners(home.store)

    with WorkerIdentity(home.settings.workers, 30) as other:
        lookers = [threading.Thread(target=look, args=(other,)) for _ in range(3)]
        for thread in lookers:
            thread.start()
        try:
            for _ in range(100):
                with WorkerIdentity(home.settings.workers, 30) as identity:
                    assert identity._path(identity._name).exists()
        finally:
            end.set()
            for thread in lookers:
                thread.join()


def test_owners_elsewhere_are_never_called_dead(home: Home) -> None:
    """Another host, or another home on this one: only the end of the lease tells."""
    for owner in ("elsewhere/1-abc", f"{os.uname().nodename}/1-not-in-this-home"):
        home.store.jobs.add(new_job())
        assert home.store.jobs.claim(owner, lease=60) is not None
    with WorkerIdentity(home.settings.workers, 30) as identity:
        assert identity.find_dead_owners(home.store) == set()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable) as caught, WorkerIdentity(tmp_path / "file" / "workers", 30):
        pass
    assert caught.value.exit_code == ExitCode.STORE
    assert "PUSHER_HOME" in caught.value.hint


def test_a_heartbeat_looks_every_second_and_ends_with_its_context(home: Home) -> None:
    looked = threading.Event()
    with (
        WorkerIdentity(home.settings.workers, 30) as identity,
        identity.heartbeat(home.store, looked.set),
    ):
        assert looked.wait(PATIENCE)
    assert all(thread.name != "heartbeat" for thread in threading.enumerate())


# --- signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    asked = threading.Event()
    with handle_signals(asked.set, lambda: None) as seen:
        assert seen.number == 0
        os.kill(os.getpid(), number)
        assert asked.wait(PATIENCE)
        assert seen.number == number
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_the_process_with_its_own_exit_code() -> None:
    program = (
        "import os, signal, time\n"
        "from pusher.worker.signals import handle_signals\n"
        "with handle_signals(lambda: print('first', flush=True), lambda: print('again', flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(600)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (143, "first\nagain\n"), done.stderr


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    installed: list[object] = []

    def enter() -> None:
        with handle_signals(lambda: None, lambda: None) as seen:
            installed.append((signal.getsignal(signal.SIGTERM), seen.number))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert installed == [(before, 0)]


def test_what_a_dead_worker_holds_for_jobs_that_are_done_is_given_back(home: Home) -> None:
    """As after a clock that was set back: the lease would bind for hours, and keep the lock's file."""
    folder = home.settings.workers
    lost, digest = WorkerIdentity(folder, 3600), "sha256:" + "a" * 64
    lost.__enter__()
    assert home.store.uploads.acquire("r", "app", digest, owner=lost.owner, lease=3600) is not None
    lost.__exit__(OSError, OSError(), None)  # as the kernel would: the file stays
    assert home.store.jobs.owners() == {lost.owner}
    with WorkerIdentity(folder, 30) as identity:
        identity.release_dead_owners(home.store)
        assert home.store.jobs.owners() == set()
        assert len(list(folder.iterdir())) == 1, "our own"


def test_a_dead_worker_is_known_as_dead_after_its_lease_has_expired(home: Home, archive: Path) -> None:
    """A run that ends before it takes the job over does not remove what shows that the worker is dead."""
    folder = home.settings.workers
    home.enqueue(archive, "r.example/app:1")
    lost = WorkerIdentity(folder, 0.01)
    lost.__enter__()
    assert home.store.jobs.claim(lost.owner, lease=0.01) is not None
    lost.__exit__(OSError, OSError(), None)  # as the kernel would: the file stays
    time.sleep(0.02)
    for _ in range(2):
        with WorkerIdentity(folder, 30) as identity:
            assert identity.find_dead_owners(home.store) == {lost.owner}
            identity.release_dead_owners(home.store)
