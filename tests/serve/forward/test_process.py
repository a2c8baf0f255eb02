"""A forwarding ``pusher serve`` as a process: killed in both halves of a push, and asked to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import requests

from pusher.config.load import sqlite_url
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.serve.process import serving
from tests.serve.served import descriptor, manifest, sha256
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On, Stall
from tests.support.waiting import PATIENCE, wait_until

CONFIG = b"{}"
LAYER = os.urandom(300_000)
RAW = manifest(descriptor(sha256(CONFIG), CONFIG), descriptor(sha256(LAYER), LAYER))
CHUNK = 20_000


def test_kill_9_in_both_halves_and_the_image_arrives(tmp_path: Path) -> None:
    env = {"PUSHER_HOME": str(tmp_path / "home")}
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=CHUNK)) as registry:
        options = ("--to", registry.address, "--progress", "none")
        with serving(*options, env=env) as served:
            assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(CONFIG)}", data=CONFIG).ok
            location = served.ask("POST", "/v2/app/blobs/uploads/").headers["Location"]
            assert served.ask("PATCH", location, data=LAYER[:100_000]).status_code == 202
            served.end(signal.SIGKILL)
        stall = Stall(after_bytes=100)
        registry.faults.add(Fault(On.CHUNK, stall, nth=5, times=None))
        with serving(*options, env=env) as served:
            assert served.ask("GET", location).headers["Range"] == "0-99999"
            assert served.ask("PUT", f"{location}?digest={sha256(LAYER)}", data=LAYER[100_000:]).ok
            cut = threading.Thread(target=_push_and_be_cut, args=(f"{served.url}/v2/app/manifests/1",))
            cut.start()
            registry.wait_for_fault(On.CHUNK)
            served.end(signal.SIGKILL)
            cut.join()
        registry.faults.clear()
        stall.release()
        registry.cut()
        with serving(*options, env=env) as served:
            assert served.ask("PUT", "/v2/app/manifests/1", data=RAW).status_code == 201
            assert served.ask("GET", "/v2/app/manifests/1").content == RAW
            assert served.end() == 128 + signal.SIGTERM
        assert registry.blob("app", sha256(LAYER)) == LAYER
        assert registry.body_bytes_received() <= len(LAYER) + len(CONFIG) + CHUNK
    with Store.open(sqlite_url(tmp_path / "home" / "jobs.db")) as store:
        assert [(job.id, job.state) for job in store.jobs.list()] == [(1, JobState.SUCCEEDED)]


def test_kill_9_before_the_manifest_and_the_blob_is_sent_on(tmp_path: Path) -> None:
    env = {"PUSHER_HOME": str(tmp_path / "home")}
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=CHUNK)) as registry:
        stall = Stall(after_bytes=100)
        registry.faults.add(Fault(On.CHUNK, stall, nth=5, times=None))
        options = ("--to", registry.address, "--progress", "none")
        with serving(*options, env=env) as served:
            assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(LAYER)}", data=LAYER).ok
            registry.wait_for_fault(On.CHUNK)
            served.end(signal.SIGKILL)
        registry.faults.clear()
        stall.release()
        registry.cut()
        with serving(*options, env=env) as served:
            registry.wait_for(lambda r: sha256(LAYER) in r.blobs.get("app", {}))
            with Store.open(sqlite_url(tmp_path / "home" / "jobs.db")) as store:
                wait_until(lambda: store.jobs.get(1).state is JobState.RECEIVING)
            assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(CONFIG)}", data=CONFIG).ok
            assert served.ask("PUT", "/v2/app/manifests/1", data=RAW).status_code == 201
        assert registry.body_bytes_received() <= len(LAYER) + len(CONFIG) + CHUNK
    with Store.open(sqlite_url(tmp_path / "home" / "jobs.db")) as store:
        assert [(job.id, job.state) for job in store.jobs.list()] == [(1, JobState.SUCCEEDED)]


def _push_and_be_cut(url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=RAW, timeout=PATIENCE)


def test_asked_to_end_it_stops_as_run_does_and_tells_who_waits(tmp_path: Path) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=CHUNK)) as registry:
        registry.stop()
        options = ("--to", registry.address, "--progress", "none")
        with serving(*options, env={"PUSHER_HOME": str(tmp_path / "home")}) as served:
            for data in (CONFIG, LAYER):
                assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(data)}", data=data).ok
            answers: list[requests.Response] = []
            thread = threading.Thread(
                target=lambda: answers.append(served.ask("PUT", "/v2/app/manifests/1", data=RAW))
            )
            thread.start()
            with Store.open(sqlite_url(tmp_path / "home" / "jobs.db")) as store:
                wait_until(lambda: store.jobs.list(states=[JobState.WAITING]))
            assert served.end() == 128 + signal.SIGTERM
            thread.join()
            assert answers[0].status_code == 503
            assert "continues with the next pusher serve" in answers[0].json()["errors"][0]["message"]


def test_stopped_without_a_job_it_does_not_say_that_there_was_nothing(tmp_path: Path) -> None:
    options = ("--to", "127.0.0.1:1", "--progress", "none")
    with serving(*options, env={"PUSHER_HOME": str(tmp_path / "home")}) as served:
        status = Path(f"/proc/{served.process.pid}/status")
        if not status.exists():
            pytest.skip("only Linux tells which signals a process handles")
        while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & 1 << signal.SIGTERM - 1:
            time.sleep(0.02)
        assert served.end(signal.SIGINT) == 128 + signal.SIGINT
        assert served.process.stderr is not None
        assert "Nothing to push" not in served.process.stderr.read()
