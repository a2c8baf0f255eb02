"""The page in a real Chromium."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pusher.serve.access import Login
from pusher.store.records import JobState
from tests.serve.page.browser import CONTRAST, NAMELESS, TIMEOUT, chromium, tab
from tests.serve.page.served import EXAMPLE, ServedPage
from tests.serve.process import serving
from tests.serve.served import descriptor, manifest, sha256
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.link import ShakyLink
from tests.support.processes import free_port
from tests.support.real import require

pytestmark = pytest.mark.real
LONG = "registry.example.com/" + "a-long-name-of-a-team/" * 5 + "an-image-whose-name-has-no-end:1.2.3"
CONFIG = b"{}"
NARROW = {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require("chromium")
    expect.set_options(timeout=TIMEOUT)
    with chromium() as browser:
        yield browser


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedPage]:
    with ServedPage(tmp_path / "home") as served:
        yield served


def row(page: Page, job_id: int) -> Locator:
    return page.locator(f"#job-{job_id}")


def live(page: Page, url: str) -> None:
    """Open an address and wait until it is kept up to date."""
    page.goto(url)
    expect(page.locator("#connection")).to_have_text("Live")


def test_progress_moves_while_a_push_runs_through_a_slow_link(browser: Browser, tmp_path: Path) -> None:
    layer = os.urandom(1_000_000)
    raw = manifest(descriptor(sha256(CONFIG), CONFIG), descriptor(sha256(layer), layer))
    env = {"PUSHER_HOME": str(tmp_path / "home")}
    with (
        FakeRegistry(SERVERLESS.scaled(min=1000, max=50_000)) as registry,
        ShakyLink(registry.address, rate=50_000) as link,
        serving("--to", link.address, "--progress", "none", env=env) as served,
        tab(browser) as opened,
    ):
        live(opened.page, served.url)
        expect(opened.page.locator("#empty")).to_contain_text("docker push localhost:")
        for data in (CONFIG, layer):
            assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(data)}", data=data).ok
        push = threading.Thread(target=lambda: served.ask("PUT", "/v2/app/manifests/1", data=raw))
        push.start()
        bar = opened.page.get_by_role("progressbar", name="Progress of job 1")
        seen = [0.0]
        while len(seen) < 4:
            opened.page.wait_for_function(
                "at => document.querySelector('progress')?.value > at", arg=seen[-1]
            )
            seen.append(float(bar.get_attribute("value") or 0))
        expect(row(opened.page, 1).locator(".figures")).to_contain_text("/s")
        link.rate = None
        expect(row(opened.page, 1).locator(".state")).to_have_text("succeeded")
        push.join()
        opened.page.get_by_role("link", name="app:1").click()
        expect(opened.page.locator("#layers tbody tr")).to_have_count(2)
        expect(opened.page.locator("#log")).to_contain_text("succeeded")


def test_buttons_work_by_keyboard_and_the_focus_stays(browser: Browser, served: ServedPage) -> None:
    served.add()
    served.add()
    with tab(browser) as opened:
        page = opened.page
        live(page, served.url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.get_by_role("button", name="Pause job 1").focus()
        page.keyboard.press("Enter")
        resume = page.get_by_role("button", name="Resume job 1")
        expect(resume).to_be_focused()
        expect(page.locator("#said")).to_have_text(re.compile("Job 1(:| is) paused"))
        assert served.home.state(1) is JobState.PAUSED
        served.home.store.jobs.cancel(2)  # the rows change places
        expect(row(page, 2).locator(".state")).to_have_text("cancelled")
        expect(resume).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Pause job 1")).to_be_focused()


def test_cancel_asks_first(browser: Browser, served: ServedPage) -> None:
    served.add()
    with tab(browser) as opened:
        page = opened.page
        live(page, f"{served.url}/jobs/1")
        confirm = page.get_by_role("button", name="Yes, cancel job 1")
        expect(confirm).not_to_be_visible()
        page.locator("summary").press("Enter")
        served.home.store.events.add(1, "note", "an update comes meanwhile")
        expect(page.locator("#log")).to_contain_text("meanwhile")
        confirm.click()
        expect(row(page, 1).locator(".state")).to_have_text("cancelled")
        page.get_by_role("button", name="Retry job 1").click()
        expect(row(page, 1).locator(".state")).to_have_text("queued")


def test_two_tabs_show_the_same(browser: Browser, served: ServedPage) -> None:
    served.add()
    with tab(browser) as opened:
        other = opened.open()
        live(opened.page, served.url)
        live(other, f"{served.url}/jobs/1")
        opened.page.get_by_role("button", name="Pause job 1").click()
        for page in (opened.page, other):
            expect(row(page, 1).locator(".state")).to_have_text("paused")
        served.add(image="new:1")
        expect(row(opened.page, 2)).to_contain_text("new:1")
        expect(opened.page.locator("#state-all")).to_have_text(re.compile(r"All\s+2"))


def test_a_tab_that_is_not_looked_at_costs_nothing(browser: Browser, served: ServedPage) -> None:
    served.add()
    with tab(browser) as opened:
        page = opened.page
        live(page, served.url)
        look = "is => { Object.defineProperty(document, 'hidden', { value: is, configurable: true });"
        look += "document.dispatchEvent(new Event('visibilitychange')); }"
        page.evaluate(look, True)
        page.wait_for_function("source === null")
        served.home.store.jobs.pause(1)
        page.evaluate(look, False)
        expect(row(page, 1).locator(".state")).to_have_text("paused")


def test_what_a_button_could_not_do_is_told(browser: Browser, served: ServedPage) -> None:
    served.add()
    with tab(browser) as opened:
        page = opened.page
        live(page, served.url)
        page.evaluate("for (const each of document.getElementsByName('token')) each.value = 'old'")
        page.get_by_role("button", name="Pause job 1").click()
        expect(page.get_by_role("alert")).to_contain_text("reload the page")
        assert served.home.state(1) is JobState.QUEUED
        served.home.store.jobs.pause(1)
        expect(row(page, 1).locator(".state")).to_have_text("paused")
        expect(page.get_by_role("alert")).to_contain_text(
            "reload the page"
        )  # an update does not take it away
        assert [text for text in opened.console if "403" not in text] == []  # Chromium tells of the status
        opened.console.clear()


def test_without_scripts_everything_can_be_read_and_done(browser: Browser, served: ServedPage) -> None:
    served.add(image="app:1.2")
    with tab(browser, java_script_enabled=False) as opened:
        page = opened.page
        page.goto(served.url)
        expect(page.get_by_role("link", name="reload it")).to_be_visible()
        page.get_by_role("button", name="Pause job 1").click()
        expect(row(page, 1).locator(".state")).to_have_text("paused")
        assert page.url == f"{served.url}/#job-1"
        page.locator("summary").click()
        page.get_by_role("button", name="Yes, cancel job 1").click()
        expect(row(page, 1).locator(".state")).to_have_text("cancelled")
        page.get_by_label("Image, destination or number").fill("nothing")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", name="No such job")).to_be_visible()
        page.get_by_role("link", name="Show all jobs").click()
        page.get_by_role("link", name="app:1.2").click()
        expect(page.get_by_role("heading", name="Log")).to_be_visible()


def test_a_search_is_typed_and_stays_while_the_page_is_updated(browser: Browser, served: ServedPage) -> None:
    served.add(image="first:1")
    served.add(image="second:1")
    with tab(browser) as opened:
        page = opened.page
        live(page, served.url)
        field = page.get_by_role("searchbox")
        field.fill("FIRST")
        served.home.store.jobs.pause(1)
        expect(row(page, 1).locator(".state")).to_have_text("paused")
        expect(field).to_have_value("FIRST")
        field.press("Enter")
        expect(page.locator(".job")).to_have_count(1)
        page.get_by_role("navigation", name="Jobs by state").get_by_role("link", name="Paused").click()
        expect(page.locator("[aria-current=page]")).to_contain_text("Paused")
        expect(field).to_have_value("FIRST")
        expect(page.locator(".job")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, {"width": 1300, "height": 900}], ids=["narrow", "wide"])
def test_it_fits_and_has_contrast(browser: Browser, served: ServedPage, scheme: str, size: object) -> None:
    for number in range(4):
        served.add(image=LONG if number % 2 else "x" * 200, tag=f"t{number}")
    served.home.store.jobs.pause(2)
    served.home.store.jobs.cancel(3)
    served.home.store.events.add(1, "note", "y" * 300)
    with tab(browser, color_scheme=scheme, viewport=size) as opened:
        page = opened.page
        for path in ("/", "/jobs/1", "/?q=nothing"):
            live(page, f"{served.url}{path}")
            if path == "/":
                page.locator("summary").first.click()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate(CONTRAST) == []
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
            "rgb(246, 247, 249)" if scheme == "light" else "rgb(18, 21, 26)"
        )


def test_every_control_has_a_name_and_landmarks_are_there(browser: Browser, served: ServedPage) -> None:
    served.add()
    with tab(browser) as opened:
        page = opened.page
        for path in ("/", "/jobs/1"):
            live(page, f"{served.url}{path}")
            for role in ("banner", "main", "contentinfo", "search"):
                expect(page.get_by_role(role)).to_have_count(1)
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert page.evaluate(NAMELESS) == []


def test_motion_is_reduced_where_that_is_wanted(browser: Browser, served: ServedPage) -> None:
    with tab(browser, reduced_motion="reduce") as opened:
        live(opened.page, served.url)
        expect(opened.page.locator("#empty")).to_contain_text(EXAMPLE)
        served.add()
        expect(opened.page.get_by_role("progressbar")).to_be_visible()
        style = "getComputedStyle(document.querySelector('progress'), '::-webkit-progress-value')"
        assert opened.page.evaluate(f"{style}.transitionDuration") == "0s"


def test_it_connects_again_when_serve_is_back(browser: Browser, tmp_path: Path) -> None:
    options = ("--to", "127.0.0.1:1", "--progress", "none", "--listen", f"127.0.0.1:{free_port()}")
    env = {"PUSHER_HOME": str(tmp_path / "home")}
    raw = manifest(descriptor(sha256(CONFIG), CONFIG))
    with tab(browser) as opened:
        page = opened.page
        with serving(*options, "--acknowledge", "received", env=env) as served:
            assert served.ask("POST", f"/v2/app/blobs/uploads/?digest={sha256(CONFIG)}", data=CONFIG).ok
            assert served.ask("PUT", "/v2/app/manifests/1", data=raw).status_code == 201
            live(page, served.url)
            expect(page.get_by_role("button", name="Pause job 1")).to_be_visible()
            served.end()
        expect(page.locator("#connection")).to_have_text("Reconnecting…")
        with serving(*options, "--acknowledge", "received", env=env):
            expect(page.locator("#connection")).to_have_text("Live")
            page.get_by_role("button", name="Pause job 1").click()  # with the token of the new process
            expect(row(page, 1).locator(".state")).to_have_text("paused")
        opened.console.clear()  # Chromium tells of every connection that is refused


def test_a_browser_logs_in_and_follows(browser: Browser, tmp_path: Path) -> None:
    with ServedPage(tmp_path / "home", login=Login("alice", "secret"), is_local=False) as served:
        served.add()
        with tab(browser, http_credentials={"username": "alice", "password": "secret"}) as opened:
            live(opened.page, served.url)
            opened.page.get_by_role("button", name="Pause job 1").click()
            expect(row(opened.page, 1).locator(".state")).to_have_text("paused")


def test_the_page_of_a_local_registry(browser: Browser, tmp_path: Path) -> None:
    raw = manifest(descriptor(sha256(CONFIG), CONFIG))
    with serving("--local", str(tmp_path / "registry")) as served, tab(browser) as opened:
        page = opened.page
        live(page, served.url)
        expect(page.locator("#live")).to_contain_text("docker push")
        assert served.ask("POST", f"/v2/team/app/blobs/uploads/?digest={sha256(CONFIG)}", data=CONFIG).ok
        assert served.ask("PUT", "/v2/team/app/manifests/1.2", data=raw).status_code == 201
        page.get_by_role("link", name="team/app").click()
        host = served.url.removeprefix("http://")
        expect(page.locator("#repository")).to_contain_text(f"docker pull {host}/team/app:1.2")
        expect(page.locator("#repository")).to_contain_text(sha256(raw))
        assert served.ask("PUT", "/v2/team/app/manifests/1.3", data=raw).status_code == 201
        expect(page.get_by_role("heading", name="1.3")).to_be_visible()
