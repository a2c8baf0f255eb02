"""Pushes to a forwarding ``pusher serve``: jobs, answers, and what is left of them."""

from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.oci.index import MAX_NESTED
from pusher.oci.media_types import OCI_INDEX, OCI_MANIFEST
from pusher.reference import RegistryPath
from pusher.registry.upload import profiles
from pusher.serve.forward import api, images
from pusher.serve.forward.upstream import Upstream
from pusher.store.records import FINAL_STATES, JobState
from pusher.worker.enqueue import record
from tests.serve.forward.front import Front, push_in_background
from tests.serve.served import EMPTY, Repository, Served, codes, descriptor, index, manifest, sha256, sha512
from tests.support.fakeregistry import SERVERLESS, Answer, FakeRegistry, Fault, On, Stall
from tests.support.waiting import wait_until

INVALID = b'{"errors": [{"code": "MANIFEST_INVALID", "message": "not this one"}]}'
LAYER = os.urandom(200_000)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "destination") as served:
        yield served


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with Front(tmp_path / "home") as front:
        yield front


@pytest.fixture
def here(front: Front, destination: Served) -> Repository:
    """The repository as clients of the front call it."""
    return front.repository(f"127.0.0.1:{destination.port}", "team/app")


@pytest.fixture
def there(destination: Served) -> Repository:
    """The same at the destination."""
    return Repository(destination, "team/app")


def has_job(front: Front) -> bool:
    """Whether the manifest of an image has come."""
    return [job.has_manifest for job in front.home.store.jobs.list()] == [True]


def is_empty(front: Front) -> bool:
    """Whether nothing of what was received is kept any more."""
    return not [
        path
        for path in (front.folder / "serve").rglob("*")
        if path.is_file() and path.parent.name.startswith("sha")
    ]


def test_it_is_there_when_the_push_is_answered(here: Repository, there: Repository, front: Front) -> None:
    raw = here.image(LAYER)
    assert here.push(raw, "1.2").status_code == 201
    assert there.ask("GET", "manifests/1.2").content == raw
    assert there.ask("GET", f"blobs/{sha256(LAYER)}").content == LAYER
    (job,) = front.home.store.jobs.list()
    assert (job.state, job.image) == (JobState.SUCCEEDED, f"{here.name}:1.2")
    assert is_empty(front)


def test_what_the_destination_has_is_not_sent_again(here: Repository, there: Repository) -> None:
    digest = there.push_blob(LAYER)
    answer = here.ask("HEAD", f"blobs/{digest}")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(LAYER)))
    config = descriptor(here.push_blob(EMPTY), EMPTY)
    raw = manifest(config, descriptor(digest, LAYER))
    assert here.push(raw, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == raw


def test_below_one_place(tmp_path: Path, destination: Served) -> None:
    with Front(tmp_path / "home", to=f"127.0.0.1:{destination.port}/mirror") as front:
        here = Repository(front, "team/app")
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
    assert Repository(destination, "mirror/team/app").ask("GET", "manifests/1").content == raw


def test_a_short_name_of_a_registry(tmp_path: Path, destination: Served) -> None:
    place = RegistryPath.parse(f"127.0.0.1:{destination.port}/mirror")
    with Front(tmp_path / "home", aliases={"work": place}) as front:
        here = Repository(front, "work/team/app")
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
    assert Repository(destination, "mirror/team/app").ask("GET", "manifests/1").content == raw


def test_an_index_whose_children_come_first(here: Repository, there: Repository) -> None:
    children = [here.image(LAYER, os.urandom(100)) for _ in range(2)]
    attestation = here.image(b"sbom", subject=descriptor(sha256(children[0]), children[0], OCI_MANIFEST))
    root = index(*children, attestation)
    for raw in (*children, attestation):
        assert here.push(raw).status_code == 201
    assert here.push(root, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == root
    for raw in (*children, attestation):
        assert there.ask("GET", f"manifests/{sha256(raw)}").content == raw
    listed = there.ask("GET", f"referrers/{sha256(children[0])}").json()["manifests"]
    assert [each["digest"] for each in listed] == [sha256(attestation)]


def test_children_that_only_the_destination_has(here: Repository, there: Repository) -> None:
    child = there.image(LAYER)
    there.push(child)
    assert here.ask("HEAD", f"manifests/{sha256(child)}").status_code == 200
    root = index(child)
    assert here.push(root, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == root


def test_indexes_nested_without_end(here: Repository, there: Repository) -> None:
    """The destination took each of them: they are fetched from it level by level."""
    nested = [there.image(LAYER)]
    for _ in range(MAX_NESTED + 1):
        nested.append(index(nested[-1]))
    for raw in nested[:-1]:
        assert there.push(raw).status_code == 201
    answer = here.push(index(nested[-2]), "1")
    assert (answer.status_code, codes(answer)) == (400, ["MANIFEST_INVALID"])
    assert f"nested more than {MAX_NESTED} deep" in answer.text


def test_a_missing_image_is_looked_for_once(here: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many indexes list it."""
    looked = []
    lost = manifest(descriptor(sha256(b"nowhere"), b"nowhere"))
    level = [index(lost, annotations={"n": str(n)}) for n in range(3)]
    stored = {sha256(raw): raw for raw in level}

    def find(_: Upstream, name: str, digest: str) -> tuple[str, bytes] | None:
        looked.append(digest)
        return (OCI_INDEX, stored[digest]) if digest in stored else None

    monkeypatch.setattr(Upstream, "manifest", find)
    answer = here.push(index(*level), "1")
    assert codes(answer) == 3 * ["MANIFEST_BLOB_UNKNOWN"]
    assert sorted(looked) == sorted([*stored, sha256(lost)])


def test_a_build_cache(here: Repository, there: Repository) -> None:
    """An index whose children are blobs; the second push finds them at the destination."""
    children = [descriptor(here.push_blob(raw), raw) for raw in (EMPTY, LAYER)]
    for tag in ("1", "2"):
        root = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, "annotations": {"n": tag}}
        ).encode()
        assert here.push(root, tag).status_code == 201
        assert there.ask("GET", f"manifests/{tag}").content == root
        assert there.ask("GET", f"blobs/{sha256(LAYER)}").content == LAYER


@pytest.mark.parametrize("of", [sha256, sha512])
def test_several_tags_at_once(here: Repository, there: Repository, of: Callable[[bytes], str]) -> None:
    raw = here.image(LAYER)
    answer = here.push(raw, f"{of(raw)}?tag=a&tag=b")
    assert (answer.status_code, answer.headers["OCI-Tag"]) == (201, "a, b")
    for tag in "ab":
        assert there.ask("GET", f"manifests/{tag}").content == raw


def test_blobs_must_be_here_or_there(here: Repository) -> None:
    absent = descriptor(sha256(b"nowhere"), b"nowhere")
    answer = here.push(manifest(absent), "1")
    assert (answer.status_code, codes(answer)) == (404, ["MANIFEST_BLOB_UNKNOWN"])
    answer = here.push(index(manifest(absent)), "1")
    assert codes(answer) == ["MANIFEST_BLOB_UNKNOWN"]


@pytest.mark.parametrize("name", ["team/app", "app", "localhost_99999/app", "localhost_1/app"])
def test_names_that_lead_nowhere(front: Front, name: str) -> None:
    repository = Repository(front, name)
    for answer in (
        repository.ask("POST", "blobs/uploads/"),
        repository.ask("GET", f"blobs/{sha256(b'')}"),
        repository.push(index(), "1"),
    ):
        assert (answer.status_code, codes(answer)) == (404, ["NAME_UNKNOWN"])
    assert not front.home.store.jobs.list()


# --- what goes wrong at the destination ---------------------------------------------------------------------


def test_a_layer_that_is_too_large_is_told(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(profiles.SERVERLESS, max_blob=100_000, min_chunk=1000, max_chunk=20_000)
    monkeypatch.setitem(profiles.PROFILES, small.name, small)
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000, blob=100_000)) as registry:
        here = front.repository(registry.address, "team/app")
        answer = here.push(here.image(LAYER), "1")
        assert (answer.status_code, codes(answer)) == (413, ["SIZE_INVALID"])
        told = answer.json()["errors"][0]["message"]
        assert told.startswith("job 1: ")
        assert registry.address in told


def test_a_login_that_is_missing_is_told(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000), credentials=("alice", "secret")) as registry:
        here = front.repository(registry.address, "team/app")
        answer = here.push(here.image(LAYER), "1")
        assert (answer.status_code, codes(answer)) == (403, ["DENIED"])
        assert "pusher login" in answer.json()["errors"][0]["message"]


def test_chunks_are_as_the_destination_takes_them(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        here = front.repository(registry.address, "team/app")
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
        assert registry.manifests["team/app"]["1"][1] == raw
        assert max(registry.chunks) <= 20_000


def test_a_destination_that_is_away_is_waited_for(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        registry.stop()
        here = front.repository(registry.address, "team/app")
        raw = here.image(LAYER)  # HEADs say no
        thread, answers = push_in_background(here, raw, "1")
        wait_until(lambda: has_job(front) and front.home.state(1) is JobState.WAITING)
        registry.start()
        front.home.store.jobs.retry(1)
        thread.join(20)
        assert [answer.status_code for answer in answers] == [201]
        assert registry.manifests["team/app"]["1"][1] == raw


def test_a_job_that_failed_can_be_tried_again(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        registry.faults.add(
            Fault(On.PUT_MANIFEST, Answer(400, {"Content-Type": "application/json"}, INVALID), times=None)
        )
        here = front.repository(registry.address, "team/app")
        raw = here.image(LAYER)
        answer = here.push(raw, "1")
        assert (answer.status_code, codes(answer)) == (403, ["DENIED"])
        assert "not this one" in answer.json()["errors"][0]["message"]
        front.api._images.tidy()
        registry.faults.clear()
        front.home.store.jobs.retry(1)
        wait_until(lambda: front.home.state(1) is JobState.SUCCEEDED)
        front.api._images.tidy()
        assert is_empty(front)


def test_a_full_disk_is_507_and_the_same_push_works_once_there_is_room(
    here: Repository, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    raw = here.image(LAYER)
    with monkeypatch.context() as full:
        full.setattr(images, "_write_file", fail)
        assert here.push(raw, "1").status_code == 507
    assert here.push(raw, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == raw


def test_a_layout_stays_for_a_job_that_was_only_just_recorded(
    tmp_path: Path, destination: Served, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the disk is full then, or the process is killed."""

    def fail_at_the_list(path: Path, data: bytes) -> None:
        if path.name == "jobs.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    write = images._write_file
    with Front(tmp_path / "home", work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        raw = here.image(LAYER)
        with monkeypatch.context() as full:
            full.setattr(images, "_write_file", fail_at_the_list)
            assert here.push(raw, "1").status_code == 507
        front.api._images.tidy()
        front.work()
        assert here.push(raw, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == raw


def test_a_layout_stays_where_the_list_of_its_jobs_cannot_be_read(
    tmp_path: Path, destination: Served, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Front(tmp_path / "home", waits=False, work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
        with monkeypatch.context() as unreadable:

            def fail(_: Path) -> bytes:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

            unreadable.setattr(Path, "read_bytes", fail)
            with suppress(OSError):
                front.api._images.tidy()
        front.work()
        wait_until(lambda: front.home.state(1) in FINAL_STATES)
        assert front.home.state(1) is JobState.SUCCEEDED


def test_tidying_goes_on_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_TIDY", 0.01)
    again = threading.Event()
    with Front(tmp_path / "home", work=False) as front:
        errors = iter([sqlite3.OperationalError("disk I/O error"), OSError(errno.EIO, "I/O error")])

        def tidy() -> None:
            if (error := next(errors, None)) is not None:
                raise error
            again.set()

        monkeypatch.setattr(front.api._images, "tidy", tidy)
        assert again.wait(20)


# --- clients that go away -----------------------------------------------------------------------------------


def test_received_is_enough_where_it_was_asked_for(
    tmp_path: Path, destination: Served, there: Repository
) -> None:
    with Front(tmp_path / "home", waits=False, work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
        assert there.ask("GET", "manifests/1").status_code == 404
        assert front.home.state(1) is JobState.QUEUED
        front.work()
        wait_until(lambda: front.home.state(1) is JobState.SUCCEEDED)
    assert there.ask("GET", "manifests/1").content == raw


def test_who_hangs_up_loses_nothing_and_finds_the_job_again(
    tmp_path: Path, destination: Served, there: Repository
) -> None:
    with Front(tmp_path / "home", work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        raw = here.image(LAYER)
        with socket.create_connection(("127.0.0.1", front.port)) as connection:
            head = (
                f"PUT {here.path}/manifests/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n"
            )
            connection.sendall(head.encode() + b"\r\n" + raw)
            wait_until(lambda: has_job(front))
        thread, answers = push_in_background(here, raw, "1")
        front.work()
        thread.join(20)
        assert [answer.status_code for answer in answers] == [201]
        assert [job.id for job in front.home.store.jobs.list()] == [1]
    assert there.ask("GET", "manifests/1").content == raw


def test_who_waits_is_told_when_it_ends(tmp_path: Path, destination: Served) -> None:
    with Front(tmp_path / "home", work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        thread, answers = push_in_background(here, here.image(LAYER), "1")
        wait_until(lambda: has_job(front))
        front.api.end()
        thread.join(20)
        assert answers[0].status_code == 503
        assert "job 1 is kept" in answers[0].json()["errors"][0]["message"]


def test_a_job_that_is_cancelled_ends_the_push(tmp_path: Path, destination: Served) -> None:
    with Front(tmp_path / "home", work=False) as front:
        here = front.repository(f"127.0.0.1:{destination.port}", "team/app")
        thread, answers = push_in_background(here, here.image(LAYER), "1")
        wait_until(lambda: has_job(front))
        front.home.store.jobs.cancel(1)
        thread.join(20)
        assert (answers[0].status_code, codes(answers[0])) == (409, ["DENIED"])
        front.api._images.tidy()
        assert not list((front.folder / "serve" / "images").iterdir())


def test_blobs_without_a_manifest_are_dropped_in_the_end(
    here: Repository, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.push_blob(LAYER)
    front.api._images.tidy()
    assert not is_empty(front)
    location = here.open()
    monkeypatch.setattr(images, "_KEPT", -1.0)
    front.api._images.tidy()
    assert not is_empty(front)  # somebody pushes there
    here.served.ask("DELETE", location)
    front.api._images.tidy()
    assert is_empty(front)


def test_without_hard_links_blobs_are_copied(
    here: Repository, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    raw = here.image(LAYER)
    assert here.push(raw, "1").status_code == 201
    assert there.ask("GET", "manifests/1").content == raw


# --- blobs before their manifest ----------------------------------------------------------------------------


def is_receiving(front: Front) -> bool:
    """Whether the one job has sent what came, and waits for more."""
    return [(job.state, job.has_manifest) for job in front.home.store.jobs.list()] == [
        (JobState.RECEIVING, False)
    ]


def test_a_blob_is_sent_on_before_its_manifest_comes(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        here = front.repository(registry.address, "team/app")
        here.push_blob(LAYER)
        wait_until(lambda: sha256(LAYER) in registry.blobs.get("team/app", {}))
        wait_until(lambda: is_receiving(front))
        sent = registry.body_bytes_received()
        raw = here.image(LAYER)
        assert here.push(raw, "1").status_code == 201
        assert registry.body_bytes_received() <= sent + len(EMPTY)
        assert registry.manifests["team/app"]["1"][1] == raw
        (job,) = front.home.store.jobs.list()
        assert (job.id, job.state, job.tag) == (1, JobState.SUCCEEDED, "1")
        assert front.home.store.jobs.totals([1])[1].bytes_sent >= len(LAYER)
        assert is_empty(front)


def test_the_manifest_comes_while_a_blob_is_sent(front: Front) -> None:
    """The worker that has the job goes on with it."""
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        stall = Stall()
        registry.faults.add(Fault(On.CHUNK, stall, nth=3))
        here = front.repository(registry.address, "team/app")
        raw = here.image(LAYER)
        assert stall.reached.wait(20)
        thread, answers = push_in_background(here, raw, "1")
        wait_until(lambda: has_job(front))
        assert front.home.state(1) is JobState.RUNNING
        stall.release()
        thread.join(20)
        assert [answer.status_code for answer in answers] == [201]
        assert registry.blob("team/app", sha256(LAYER)) == LAYER
        assert registry.body_bytes_received() == len(LAYER) + len(EMPTY)
    kinds = [event.kind for event in front.home.store.events.of(1)]
    assert kinds.count("running") <= 2, kinds


def test_a_refusal_before_the_manifest_is_told_with_it(front: Front) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000), credentials=("alice", "secret")) as registry:
        here = front.repository(registry.address, "team/app")
        here.push_blob(LAYER)
        wait_until(lambda: is_receiving(front) and front.home.store.jobs.get(1).error is not None)
        answer = here.push(here.image(LAYER), "1")
        assert (answer.status_code, codes(answer)) == (403, ["DENIED"])
        assert front.home.state(1) is JobState.FAILED


def test_without_a_manifest_its_job_and_its_session_are_dropped(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry:
        stall = Stall()
        registry.faults.add(
            Fault(On.CHUNK, stall, nth=4), Fault(On.CHUNK, Answer(503, {}, b""), nth=5, times=None)
        )
        here = front.repository(registry.address, "team/app")
        here.push_blob(LAYER)
        assert stall.reached.wait(20)
        front.home.store.jobs.pause(1)
        stall.release()
        wait_until(lambda: not front.home.store.jobs.owners())
        front.api._images.tidy()
        assert front.home.state(1) is JobState.PAUSED
        assert registry.sessions
        monkeypatch.setattr(images, "_KEPT", -1.0)
        front.api._images.tidy()
        assert not registry.sessions
        assert front.home.state(1) is JobState.CANCELLED
        assert is_empty(front)


def test_an_image_s_layout_is_durable_before_its_job_is_recorded(
    here: Repository, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    before: list[list[Path]] = []
    flush = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    def note_record(*arguments: Any, **options: Any) -> Any:
        before.append(list(flushed))
        return record(*arguments, **options)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(images, "record", note_record)
    assert here.push(here.image(LAYER), "1").status_code == 201
    (synced,) = before
    (job,) = front.home.store.jobs.list()
    layout = Path(str(job.source["path"]))
    folders = {layout, layout / "blobs", layout / "blobs" / "sha256", layout.parent}
    last_file = max(n for n, path in enumerate(synced) if path.parent == layout and path not in folders)
    assert folders <= set(synced[last_file:])
