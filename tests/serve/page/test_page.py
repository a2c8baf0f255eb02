"""The page as a browser without scripts gets it, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import StoreLocked
from pusher.serve.access import Login
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.serve.page.served import EXAMPLE, HTML, ServedPage
from tests.support.databases import digest
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.finished_jobs import add_finished_jobs
from tests.support.home import CHUNK, cut_off
from tests.support.images import make_image, write_archive

EVIL = "<script>alert(1)</script>\u202e\x1b[31m\"'&lt;:1"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ServedPage]:
    with ServedPage(tmp_path / "home") as page:
        yield page


def test_without_jobs_it_says_what_to_type(page: ServedPage) -> None:
    shown = page.show()
    assert "Nothing was pushed yet" in shown
    assert EXAMPLE in shown


def test_the_list_has_every_job_with_its_state_and_its_buttons(page: ServedPage) -> None:
    ids = [page.add(tag=str(number)).id for number in range(3)]
    page.home.store.jobs.pause(ids[1])
    page.home.store.jobs.cancel(ids[2])
    shown = page.show()
    assert shown.index('id="job-1"') < shown.index('id="job-2"') < shown.index('id="job-3"')
    actions = re.findall(r'action="/jobs/(\d)/(\w+)"', shown)
    assert actions == [
        ("1", "pause"), ("1", "cancel"), ("2", "resume"), ("2", "cancel"), ("3", "retry")
    ]  # fmt: skip
    assert re.findall(r'data-state="(\w+)"', shown) == ["queued", "paused", "cancelled"]


def test_a_job_without_a_manifest_has_no_percentage(page: ServedPage) -> None:
    page.home.store.received_jobs.add_blob(
        image="app",
        folder="x",
        registry="registry.example.com",
        repository="app",
        digest=digest("a"),
        size=2048,
    )
    shown = page.show()
    assert 'data-state="receiving"' in shown
    assert "2.0 KiB+" in shown
    assert "%" not in shown.split('class="job"')[1]
    assert '<progress aria-label="Progress of job 1"></progress>' in shown


def test_states_text_and_numbers_select(page: ServedPage) -> None:
    page.add(image="first:1", repository="team/other")
    page.add(image="second:1")
    page.home.store.jobs.pause(2)

    def listed(query: str) -> list[str]:
        return re.findall(r'<li class="job" id="job-(\d+)"', page.show(f"/?{query}"))

    assert listed("state=paused") == ["2"]
    assert listed("q=FIRST") == listed("q=com/team/oth") == listed("q=%231") == ["1"]
    assert listed("q=team") == ["1", "2"]
    assert listed("q=team&state=queued") == ["1"]
    assert listed("q=%25") == listed("q=999999999999999999999999") == listed("page=2") == []
    assert "No such job" in page.show("/?q=%25")
    assert page.ask("GET", "/?state=lost").status_code == 404
    for number in ("0", "-1", "x", "99999999999999999999999999", "0" * 18 + "1" + "9" * 30, "9" * 5000, "²"):
        assert listed(f"page={number}") == ["1", "2"]


def test_one_job_has_its_layers_and_its_log(page: ServedPage) -> None:
    page.add()
    page.home.store.events.add(1, "note", "the registry is slow")
    shown = page.show("/jobs/1")
    assert "the registry is slow" in shown
    assert shown.count("<tr>") == 3  # the head, the config, a layer
    assert 'aria-label="Progress of layer 1"' in shown


def test_a_long_log_is_cut_and_says_where_the_rest_is(page: ServedPage) -> None:
    page.add()
    for number in range(205):
        page.home.store.events.add(1, "note", f"line {number}.")
    shown = page.show("/jobs/1")
    assert "line 204." in shown
    assert "line 4." not in shown
    assert "<code>pusher log 1</code>" in shown


def test_what_others_wrote_is_escaped(page: ServedPage) -> None:
    job = page.add(image=EVIL, repository="team/<b>")
    page.home.store.events.add(job.id, "note", EVIL)
    for shown in (page.show(), page.show("/jobs/1"), page.show("/?q=%3Cscript%3E%22%27")):
        assert "<script>alert" not in shown
        assert "<b>" not in shown
        assert "\u202e" not in shown
        assert "\x1b" not in shown
    assert r"\u202e\x1b[31m&#34;&#39;&amp;lt;:1" in page.show()
    answer = page.ask("GET", "/jobs/%3Cscript%3Ealert(1)")
    assert (answer.status_code, "<script>alert" in answer.text) == (404, False)


@pytest.mark.parametrize("path", ["/", "/jobs/1", "/jobs/99", "/assets/page.css", "/nothing"])
def test_every_answer_has_the_headers_that_protect_it(page: ServedPage, path: str) -> None:
    page.add()
    answer = page.ask("GET", path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if not path.startswith("/assets"):
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", answer.text)


def test_head_has_the_headers_of_get(page: ServedPage) -> None:
    page.add()
    for path in ("/", "/jobs/1", "/assets/page.js", "/assets/icon.svg"):
        answer = page.ask("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")
    stream = page.ask("HEAD", "/", headers={"Accept": "text/event-stream"})
    assert (stream.status_code, stream.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")


def test_assets_are_asked_for_again_only_if_they_changed(page: ServedPage) -> None:
    answer = page.ask("GET", "/assets/page.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    again = page.ask("GET", "/assets/page.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("/assets/page.html", "/assets/../site.py", "/assets/%2e%2e%2fsite.py", "/assets/"):
        assert page.ask("GET", path).status_code == 404


def test_an_unknown_job_is_a_page_with_a_way_back(page: ServedPage) -> None:
    for path in ("/jobs/7", "/jobs/x", "/jobs/99999999999999999999", "/jobs/%C2%B2"):
        answer = page.ask("GET", path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert '<a href="/">' in answer.text
    assert page.ask("GET", "/jobs/7", headers={"Accept": "*/*"}).json()["errors"]


# --- buttons ----------------------------------------------------------------------------------------------


def test_buttons_change_the_job_and_lead_back(page: ServedPage) -> None:
    page.add()
    for verb, state in (
        ("pause", JobState.PAUSED),
        ("resume", JobState.QUEUED),
        ("cancel", JobState.CANCELLED),
        ("retry", JobState.QUEUED),
    ):
        answer = page.press(1, verb)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/#job-1")
        assert page.home.state(1) is state


def test_retry_forgets_the_limits_learned_of_the_registry(page: ServedPage) -> None:
    job = page.add()
    page.home.store.facts.update(job.registry, max_chunk=1000)
    page.press(1, "cancel")
    page.press(1, "retry")
    assert page.home.store.facts.get(job.registry).max_chunk is None


def test_a_button_without_the_token_does_nothing(page: ServedPage) -> None:
    page.add()
    for data in ({}, {"token": ""}, {"token": "x" * 43}, {"token": "ä"}, {"token": page.token()[:-1]}):
        answer = page.ask("POST", "/jobs/1/cancel", data=data)
        assert answer.status_code == 403
        assert "reload the page" in answer.text
    assert page.home.state(1) is JobState.QUEUED


def test_a_button_of_another_site_does_nothing(page: ServedPage) -> None:
    page.add()
    for origin in ("https://example.com", "null", f"http://localhost:{page.port}"):
        assert page.press(1, "cancel", headers={**HTML, "Origin": origin}).status_code == 403
    assert page.home.state(1) is JobState.QUEUED
    assert page.press(1, "cancel", headers={**HTML, "Origin": page.url}).status_code == 303


def test_a_button_leads_nowhere_else(page: ServedPage) -> None:
    page.add()
    for back in (
        "//example.com/",
        "https://example.com/",
        "/\\example.com",
        "/#\\",
        "javascript:alert(1)",
        "",
    ):
        answer = page.press(1, "pause", data={"token": page.token(), "back": back})
        assert answer.headers["Location"] == "/"


def test_a_button_that_comes_too_late_says_why(page: ServedPage) -> None:
    page.add()
    token = page.token()
    page.home.store.jobs.cancel(1)
    answer = page.ask("POST", "/jobs/1/pause", data={"token": token})
    assert answer.status_code == 409
    assert "job 1 is cancelled and cannot be paused" in answer.text
    assert "pusher retry 1" in answer.text
    plain = page.ask("POST", "/jobs/1/pause", data={"token": token}, headers={"Accept": "text/plain"})
    assert plain.text.startswith("job 1 is cancelled and cannot be paused\n")
    assert page.ask("POST", "/jobs/9/pause", data={"token": token}).status_code == 404


def test_methods_and_sizes(page: ServedPage) -> None:
    page.add()
    assert page.ask("GET", "/jobs/1/cancel").status_code == 405
    assert page.ask("POST", "/").status_code == 405
    assert page.ask("DELETE", "/jobs/1").status_code == 405
    assert page.ask("POST", "/jobs/1/destroy", data={"token": page.token()}).status_code == 404
    assert page.ask("POST", "/jobs/1/cancel", data={"token": "x" * 100_000}).status_code == 413
    assert page.ask("POST", "/jobs/1/cancel", data=b"\xff%ff&&==").status_code == 403
    assert page.home.state(1) is JobState.QUEUED


def test_a_browser_is_asked_for_the_login(tmp_path: Path) -> None:
    with ServedPage(tmp_path / "home", login=Login("alice", "secret"), is_local=False) as page:
        answer = page.ask("GET", "/")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Content-Security-Policy" in answer.headers
        assert page.ask("GET", "/", auth=("alice", "secret")).status_code == 200
        assert page.ask("GET", "/assets/page.js").status_code == 401


def test_a_store_that_does_not_answer_is_a_page_with_a_hint(
    page: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreLocked("the job store is locked", hint="wait")

    monkeypatch.setattr(type(page.home.store.jobs), "counts", fail)
    answer = page.ask("GET", "/")
    assert answer.status_code == 503
    assert "the job store is locked" in answer.text


def test_many_jobs_are_pages(page: ServedPage) -> None:
    add_finished_jobs(page.home.store, 1000)
    shown = page.show()
    assert shown.count('class="job"') == 50
    assert "Page 1 of 20" in shown
    assert 'id="job-1000"' in shown
    assert 'id="job-1"' in page.show("/?page=20")


def test_jobs_that_vanish_while_they_are_read(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    page.add()
    monkeypatch.setattr(type(page.home.store.jobs), "totals", lambda *_: {})
    assert 'class="job"' not in page.show()
    assert page.ask("GET", "/jobs/1").status_code == 200


def test_no_location_of_a_session_is_shown(page: ServedPage) -> None:
    """It may carry a secret of the registry."""
    from pusher.store.job_blobs import NEW_UPLOAD
    from pusher.store.writes import insert_sql

    job = page.add()
    store: Store = page.home.store
    (blob,) = [blob for blob in store.blobs.of_job(job.id) if not blob.is_config]
    upload = {
        **NEW_UPLOAD, "host": job.registry, "repository": job.repository, "digest": blob.digest,
        "state": "open", "location": "https://registry.example.com/upload?token=hunter2", "offset": 10,
    }  # fmt: skip
    with store._database.write() as connection:
        connection.execute(insert_sql("uploads", upload), **upload)
    shown = page.show("/jobs/1")
    assert "10.0" in shown or "10 B" in shown
    assert "hunter2" not in shown + page.show()


def test_cancel_deletes_the_session_at_the_registry(page: ServedPage, tmp_path: Path) -> None:
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=CHUNK)) as registry:
        archive = write_archive(tmp_path / "app.tar", make_image(70_000, compressible=0.0))
        page.home.enqueue(archive, f"{registry.address}/app:1")
        cut_off(page.home, registry, 2)
        assert registry.sessions
        assert page.press(1, "cancel").status_code == 303
        registry.wait_for(lambda r: not r.sessions)
    assert page.home.state(1) is JobState.CANCELLED
