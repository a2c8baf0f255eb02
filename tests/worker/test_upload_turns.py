"""A limit of uploads to one registry, over all workers of a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from pusher.errors import ExitCode
from pusher.store.budgets import Budgets
from pusher.store.store import Store
from pusher.worker.upload_turns import UploadTurn, UploadTurns
from tests.support.databases import FakeClock, clock, empty_url, kind, postgres, store, url
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, On
from tests.support.home import Background, Home, pushed
from tests.support.images import make_image, write_archive

__all__ = ["clock", "empty_url", "kind", "postgres", "store", "url"]

KB = 1000


class Waited(Exception):
    """An upload has to wait."""


def refuse(_: float) -> None:
    raise Waited


def test_two_workers_of_one_store(store: Store, clock: FakeClock) -> None:
    seconds = 0.0
    first, second = (
        UploadTurns(lambda registry: 2 if registry == "r" else None, lambda: seconds) for _ in "ab"
    )

    def renew() -> None:
        nonlocal seconds
        for name, turns in (("a", first), ("b", second)):
            turns.renew(store.budgets, name)
        seconds += 1
        clock.advance(1)

    with ExitStack() as stack:
        a = [stack.enter_context(first.join("r")) for _ in range(3)]
        assert stack.enter_context(first.join("elsewhere")) is None
        assert all(a)
        for turn in filter(None, a):
            with pytest.raises(Waited):
                turn.wait(refuse)
        renew()
        for turn, waits in zip(filter(None, a), (False, False, True), strict=True):
            if waits:
                with pytest.raises(Waited):
                    turn.wait(refuse)
            else:
                turn.wait(refuse)
        ours = second.join("r")
        b = ours.__enter__()
        assert b is not None
        renew()
        renew()
        with pytest.raises(Waited):
            b.wait(refuse)
        assert a[1] is not None
        with pytest.raises(Waited):
            a[1].wait(refuse)  # before its next chunk
        renew()
        b.wait(refuse)
        ours.__exit__(None, None, None)
        for _ in range(3):
            renew()
        a[1].wait(refuse)
        seconds += 10
        with pytest.raises(Waited):
            a[1].wait(refuse)  # frozen for ten seconds
    first.release(store.budgets, "a")
    second.release(store.budgets, "b")
    assert store.budgets.change("uploads r", lambda state: (state.content, state.content)) == {"shares": {}}


def test_large_uploads_take_turns_while_the_link_breaks() -> None:
    turns, breaks = UploadTurns(lambda registry: None), True
    with ExitStack() as stack:

        def join() -> UploadTurn:
            turn = stack.enter_context(turns.join("r", lambda: breaks))
            assert turn is not None
            return turn

        first = stack.enter_context(ExitStack())
        head = first.enter_context(turns.join("r", lambda: breaks))
        second, third = join(), join()
        assert stack.enter_context(turns.join("r")) is None, "a small one does not wait"
        assert head is not None
        head.wait(refuse)
        for waiting in (second, third):
            assert not waiting.has_link
            with pytest.raises(Waited):
                waiting.wait(refuse)
        first.close()
        second.wait(refuse)
        second.give_way()
        third.wait(refuse)
        with pytest.raises(Waited):
            second.wait(refuse)
        breaks = False
        second.wait(refuse)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=20 * KB, max=100_000 * KB)) as running:
        yield running


def test_of_two_runs_one_sends_at_a_time(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    images = [make_image(100 * KB, 100 * KB, compressible=0.0, seed=seed) for seed in range(2)]
    for number, image in enumerate(images):
        archive = write_archive(tmp_path / f"{number}.tar", image)
        home.enqueue(archive, f"{registry.address}/app{number}:1")
    workers = [
        Background(home, only=[job], chunk_size=20 * KB, parallel=2, uploads_per_registry=1) for job in (1, 2)
    ]
    assert [worker.join(60).exit_code for worker in workers] == [ExitCode.DONE, ExitCode.DONE]
    for number, image in enumerate(images):
        pushed(registry, f"app{number}", "1", image)
    chunks = [record.path.partition("?")[0] for record in registry.requests(On.CHUNK)]
    changes = sum(before != after for before, after in pairwise(chunks))
    assert changes < len(chunks) / 2, "3 of 20, unless a worker does not get to renew its lease"


def test_a_run_that_waits_says_so_and_can_be_stopped(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(30 * KB, compressible=0.0))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.store.budgets.change(
        f"uploads {registry.address}",
        lambda state: ({"shares": {"another": [1, 1, state.at, state.at + 600]}}, None),
    )
    worker = Background(home, uploads_per_registry=1)
    home.progress.wait_for_note(
        f"{registry.address} gets 1 upload at a time from all workers (uploads_per_registry): waiting"
    )
    home.store.jobs.pause(job.id)
    worker.join()
    assert registry.requests(On.OPEN) == []


def test_slots_are_given_back_while_another_upload_joins(store: Store) -> None:
    turns = UploadTurns(lambda registry: 1, lambda: 0.0)

    class Joining:
        """The budgets, at which an upload to another registry joins while they are changed."""

        def change(self, name: str, renew: Callable[..., Any]) -> Any:
            stack.enter_context(turns.join(f"beside {name}"))
            return store.budgets.change(name, renew)

    with ExitStack() as stack:
        stack.enter_context(turns.join("r"))
        turns.renew(store.budgets, "a")
        turns.release(cast("Budgets", Joining()), "a")
