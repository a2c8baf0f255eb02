"""Issue every statement of the job store once, and watch where it is, its plan and the rows it reads.

``use_everything`` calls what the store offers, so that each place in ``pusher/store`` that runs a statement
is passed. ``places`` finds these places in the source: one that was not passed is a gap here.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

import pusher.store
from pusher.oci.digest import provisional_digest
from pusher.oci.layer_blob import LayerBlob
from pusher.store.connection import Connection
from pusher.store.job_filter import JobFilter
from pusher.store.records import (
    UNFINISHED_STATES,
    BlobState,
    JobRecord,
    JobState,
    Machine,
    NewBlob,
    StoredError,
    UploadRecord,
)
from pusher.store.store import Store
from tests.support.databases import digest, new_job

FOLDER: Final = Path(pusher.store.__file__).parent
_METHODS: Final = ("execute", "execute_many", "insert", "rows", "row", "value", "column")
_ELSEWHERE: Final = (
    "notifications.py",
    "connection.py",
    "drivers.py",
    "engine.py",
    "migrate.py",
    "schema.py",
    "driver_errors.py",
)
"""Files whose statements are about the database itself."""
_STEPS: Final = 1000
_ERROR: Final = StoredError("network", "no route", "wait")


@dataclass
class Issued:
    """One statement that was run."""

    place: str
    """``FILE:LINE``."""
    function: str
    plan: str
    effort: int = 0
    """PostgreSQL: rows that were looked at. SQLite: steps of its virtual machine."""


def places() -> set[tuple[str, int]]:
    """The file and the line of each call that runs a statement."""
    found = set()
    for path in FOLDER.glob("*.py"):
        if path.name in _ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in _METHODS and getattr(node.func.value, "id", "") == "connection":
                found.add((path.name, node.lineno))
    return found


class StatementLog:
    """What the connections of this process run while ``watching``."""

    def __init__(self) -> None:
        self.issued: list[Issued] = []
        self.passed: set[tuple[str, int]] = set()

    @contextmanager
    def watching(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        run, run_many = Connection._run, Connection.execute_many

        def watch(connection: Connection, cursor: Any, sql: str, values: Mapping[str, Any]) -> Any:
            self._note(connection, sql, values, run)
            return run(connection, cursor, sql, values)

        def watch_many(connection: Connection, sql: str, rows: Any, /) -> None:
            self._place()
            run_many(connection, sql, rows)

        with patch.context() as context:
            context.setattr(Connection, "_run", watch)
            context.setattr(Connection, "execute_many", watch_many)
            yield

    def _note(self, connection: Connection, sql: str, values: Mapping[str, Any], run: Any) -> None:
        place, function = self._place()
        if sql.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            return

        def explain(how: str) -> Any:
            cursor = connection._raw.cursor()
            return run(connection, cursor, f"{how} {sql}", values).fetchall()

        if connection.is_sqlite:
            plan = "\n".join(row[-1] for row in explain("EXPLAIN QUERY PLAN"))
            issued = Issued(place, function, plan)
            self.issued.append(issued)
            # a query is run while its rows are fetched, until the next statement begins
            connection._raw.set_progress_handler(partial(_count_steps, issued), _STEPS)
        else:
            connection._raw.execute("SAVEPOINT explained")
            (tree,) = explain("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)")[0]
            connection._raw.execute("ROLLBACK TO explained")
            self.issued.append(Issued(place, function, json.dumps(tree), _rows_read(tree[0]["Plan"])))

    def _place(self) -> tuple[str, str]:
        frame: Any = sys._getframe(1)
        while Path(frame.f_code.co_filename).name in ("connection.py", Path(__file__).name):
            frame = frame.f_back
        file = Path(frame.f_code.co_filename).name
        self.passed.add((file, frame.f_lineno))
        return f"{file}:{frame.f_lineno}", frame.f_code.co_qualname


def _count_steps(issued: Issued) -> None:
    issued.effort += _STEPS


def _rows_read(node: Mapping[str, Any]) -> int:
    """The rows that a plan looked at in tables, those that it then left out included."""
    rows = sum(_rows_read(below) for below in node.get("Plans", ()))
    if node["Node Type"].endswith("Scan") and "Relation Name" in node:
        left_out = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        rows += int((node["Actual Rows"] + left_out) * node["Actual Loops"])
    return rows


def use_everything(store: Store, first: int, trimmed: int) -> None:
    """Pass every place that runs a statement.

    ``first`` is the first of at least three queued jobs, ``trimmed`` a job with more events than are kept.
    """
    _use_jobs(store, first)
    _use_destinations(store)
    _use_received_jobs(store)
    _use_uploads(store)
    _use_what_is_known(store, trimmed)
    _use_workers(store)
    store.check_writable()


def _use_jobs(store: Store, first: int) -> None:
    jobs = store.jobs
    held: dict[str, Any] = {"dead_owners": ["x"], "expired_owners": ["y"]}
    new = jobs.add(new_job(tag="latest", registry="r", repository="p", after=first))
    jobs.list(states=UNFINISHED_STATES)
    jobs.list(states=[JobState.SUCCEEDED], limit=5)
    jobs.list(limit=1)
    jobs.list(states=[JobState.FAILED], errors=["network"])
    jobs.list(starts="9", limit=20)
    jobs.page(50_000, 500)
    jobs.of_ids([1, 50_000])
    jobs.find(JobFilter(), 0, 100)
    jobs.find(JobFilter(), 100, 100)
    jobs.find(JobFilter(states=[JobState.QUEUED], registries=["r"], labels={"a": "b"}, text="7"), 5, 9)
    jobs.counts()
    jobs.counts("app")
    jobs.oldest_queued()
    jobs.totals([new.id, 1])
    jobs.get(new.id)
    jobs.owners()
    jobs.leases()
    jobs.list_failed()
    assert not jobs.has_waiting(put_off=[1], **held)
    jobs.has_waiting(only=[1, 2], **held)
    jobs.has_runnable()
    jobs.seconds_to_next()
    jobs.has_runnable(only=[1, 2])
    jobs.set_priority(first, 3)
    jobs.pause(first)
    jobs.resume(first)
    jobs.claim("w", lease=30, only=[first + 1], **held)
    job = jobs.claim("w", lease=30, at_work=[first + 1], waited=[first + 2], **held)
    assert job is not None
    assert job.id == first
    jobs.renew("w", 30)
    jobs.record_speeds("w", {job.id: (1000, 1)})
    jobs.record_silence(job, _ERROR, 10)
    jobs.end_silence(job, "it responds again")
    jobs.check_lease(job)
    jobs.release(job, state=JobState.WAITING, next_try_at=store.now(), error=_ERROR, attempt=True)
    jobs.take_wait_report(job, "network", after=0)
    jobs.take_wait_report(job, "network", after=60)
    job = _claim(store, first)
    store.blobs.of_job(first)
    store.blobs.diff_ids(first, digest("b"))
    store.blobs.set_blob(job, digest("1"), digest=digest("b"), size=9, media_type="m")
    store.blobs.set_done(job, digest("b"), BlobState.EXISTS)
    store.blobs.clear_done(job, [digest("b")])
    store.blobs.add_sent(first, digest("b"), 9)
    jobs.add_bytes_sent(first, 9)
    jobs.take_tag(job)
    jobs.succeed(job, digest("f"))
    failed = _claim(store, first + 2)
    jobs.fail(failed, _ERROR)
    jobs.list_failed()
    jobs.beyond_retry([failed.id])
    jobs.replacements([failed.id])
    jobs.retry(failed.id)
    jobs.cancel(failed.id)
    jobs.expire(failed.id)


def _use_destinations(store: Store) -> None:
    """Several jobs for the tag that all the finished ones were for."""
    jobs = store.jobs
    place: dict[str, Any] = {"tag": "latest", "registry": "r", "repository": "p"}
    older = jobs.add(new_job(**place))
    newer = jobs.add(new_job(**place))
    assert jobs.superseded_by(newer)[-1].id == older.id
    assert jobs.take_tag(_claim(store, newer.id)) is None
    patient = _claim(store, jobs.add(new_job(**place, keeps_older=True)).id)
    assert jobs.take_tag(patient) is not None
    turn = StoredError("tag-not-yet", "", "")
    jobs.release(patient, state=JobState.WAITING, next_try_at=store.now(), error=turn, attempt=True)
    assert jobs.claim("w", lease=30, only=[patient.id], at_work=[]) is None
    assert jobs.has_waiting()


def _use_received_jobs(store: Store) -> None:
    received = store.received_jobs
    place = {"registry": "r", "repository": "p"}
    for character in "45":
        received.add_blob(image="i", folder="f", digest=digest(character), size=9, **place)
    (receiving,) = received.list_incomplete()
    received.add_blob(image="i", folder="f", digest=digest("4"), size=9, **place)
    claimed = _claim(store, receiving.id)
    received.release(claimed, missing=[digest("4")])
    received.add_manifest(new_job(NewBlob(None, "m", digest("4"), 9), tag="received", **place))
    received.forget_blobs("r", "p", [digest("5")])
    received.add_blob(image="i", folder="f", digest=digest("6"), size=9, **place)
    empty = _claim(store, received.list_incomplete()[0].id)
    received.forget_blobs("r", "p", [digest("6")])
    received.release(empty)


def _use_uploads(store: Store) -> None:
    uploads = store.uploads
    upload = _acquire(store, digest("a"))
    upload = uploads.record_profile(upload, profile="zot", restarts=True)
    upload = uploads.record_chunk(upload, 4, "hash")
    upload = uploads.record_offset(upload, location="http://r", offset=4, job_id=1, sent=4)
    assert not uploads.make_late_change("record_offset", upload, {"location": "http://r", "offset": 4})
    upload = uploads.record_loss(upload, job_id=1, wasted=4)
    upload = _acquire(store, digest("a"))
    upload = uploads.record_closing(upload, 9)
    uploads.record_present(upload, session_left=True)
    early = _acquire(store, provisional_digest(digest("7")), compression="gzip 2")
    uploads.unfinished("r", "p", digest("7"))
    uploads.begun_elsewhere(early)
    store.blob_waits.all()
    assert uploads.give_digest(early, digest("8"))
    early = _acquire(store, provisional_digest(digest("9")), compression="gzip 2")
    whole = uploads.acquire("r", "p", digest("d"), owner="w", lease=30)
    assert whole is not None
    uploads.take_session(whole, early)
    uploads.release(_acquire(store, digest("e")))
    uploads.release_all("w")
    uploads.has_any_at("r")
    uploads.holders("r", digest("a"))
    uploads.profiles([("r", "p")])
    uploads.forget_present("r", "p", [digest("a")])
    assert store.abandoned.mark_unneeded(["x"]) > 0
    for abandoned in store.abandoned.all():
        store.abandoned.record_deletion(abandoned, refused=True)
    store.blobs.needed_digests([digest("a"), digest("b")])
    store.blobs.known_digests([digest("a"), digest("b")])
    dead = store.dead_sessions.all()
    store.dead_sessions.record_refusal(dead[0])
    store.dead_sessions.remove(dead[0])


def _use_what_is_known(store: Store, trimmed: int) -> None:
    store.known_blobs.remember(LayerBlob(digest("2"), 9, "gzip 2", "m", digest("1"), 20))
    store.known_blobs.of_layers([digest("1")])
    store.documents.put(digest("2"), b"{}")
    store.documents.get(digest("2"))
    store.budgets.change("rate", lambda state: (state.content, state.at))
    store.settings.set("rate", "1M")
    store.settings.all()
    store.settings.clear("rate")
    with store._database.write() as connection:  # a job, an upload, a manifest that nobody has used for long
        values = {"ago": store.now() - timedelta(days=365 * 30), "unused": digest("d")}
        connection.execute("UPDATE jobs SET finished_at = :ago WHERE id = 2", **values)
        of_blob = "host = 'r' AND digest = :unused"
        connection.execute(f"UPDATE uploads SET used_at = :ago WHERE {of_blob}", **values)
        connection.execute("UPDATE documents SET used_at = :ago", **values)
    store.facts.update("r", max_chunk=9, link_rate=9.0)
    assert store.facts.recent_rates(store.now() - timedelta(days=7))
    store.facts.update("r")
    store.facts.all()
    store.facts.forget_limits("r")
    store.facts.forget("r")
    store.events.add(1, "note", "")
    store.events.of(1, limit=5)
    store.events.of(1)
    store.events.trim([trimmed])
    store.retention.has_expired(store.now() - timedelta(days=90))
    store.retention.prune(store.now() - timedelta(days=365 * 20))


def _use_workers(store: Store) -> None:
    machine = Machine("id", "name", "/home", "spool")
    moved = store.jobs.add(new_job(tag="moved", machine="other"))
    owned = store.jobs.add(new_job(tag="owned", machine="id", spool="spool"))
    job = store.jobs.claim("w", lease=30, only=[owned.id], machine=machine)
    assert job is not None
    store.jobs.record_in_spool(job, "spool")
    store.jobs.release_to_machine(job)
    store.jobs.check_movable(moved.id)
    store.jobs.move(moved.id, machine, {"kind": "oci"})
    store.workers.record_machine(machine)
    store.workers.register("worker", machine, pid=1, version="1", lease=30)
    store.workers.renew("worker", 30)
    store.workers.all()
    store.workers.machines()
    store.workers.running_jobs()
    assert store.workers.count_waiting() == {"id": 2}
    store.workers.remove(["worker"])
    store.workers.forget(store.now() + timedelta(days=1))


def _claim(store: Store, job_id: int) -> JobRecord:
    job = store.jobs.claim("w", lease=30, only=[job_id])
    assert job is not None
    return job


def _acquire(store: Store, blob: str, compression: str | None = None) -> UploadRecord:
    upload = store.uploads.acquire("r", "p", blob, owner="w", lease=30, compression=compression)
    assert upload is not None
    return store.uploads.record_session(
        upload, location="http://r", chunk_size=1, min_chunk=None, max_chunk=None, profile="zot"
    )
