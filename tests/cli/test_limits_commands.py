"""``pusher limit`` and ``pusher parallel``, and what ``status`` shows of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.cli.test_output_schema import check

OFF = {"limit_rate": None, "limit_rate_until": None, "parallel": None, "parallel_until": None}


def test_a_limit_is_set_shown_and_removed(pusher: Pusher, store: Store) -> None:
    assert pusher("limit").out == "Limit: off; each worker has what it was started with (--limit-rate).\n"
    done = pusher("limit", "2M")
    assert (done.code, done.out, done.err) == (0, "", "Limit: 2M for all workers together.\n")
    assert pusher("limit").out == "Limit: 2M for all workers together.\n"
    pusher("limit", "08:00-18:00=2M/s, off")
    assert store.settings.all()["limit_rate"].value == "08:00-18:00=2M"
    assert pusher("limit", "OFF").code == 0
    assert store.settings.all() == {}


def test_uploads_at_a_time(pusher: Pusher, store: Store) -> None:
    assert pusher("parallel").out.startswith("Uploads at a time: off; each worker has what it was started")
    assert pusher("parallel", "3").err == "Uploads at a time: 3 for each worker.\n"
    assert store.settings.all()["parallel"].value == "3"
    assert pusher("parallel", "off").code == 0
    assert store.settings.all() == {}


def test_for_a_time(pusher: Pusher) -> None:
    assert "for all workers together, until 20" in pusher("limit", "2M", "--for", "1h").err
    limits = json.loads(pusher("parallel", "2", "--for", "90s", "--json").out)
    check("limits", limits)
    assert (limits["limit_rate"], limits["parallel"]) == ("2M", 2)
    assert limits["limit_rate_until"] > limits["parallel_until"]
    pusher("limit", "1M")
    assert json.loads(pusher("limit", "--json").out)["limit_rate_until"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("limit", "3X"), "RATE is '3X', which is not a size"),
        (("limit", ""), "RATE is '', which is not a size"),
        (("limit", "100"), "RATE is '100', which is less than 1024 bytes"),
        (("parallel", "0"), "N is '0'"),
        (("parallel", "65"), "N is '65'"),
        (("limit", "off", "--for", "1h"), "--for is '1h', and there is no value for that time"),
        (("limit", "--for", "1h"), "--for is '1h', and there is no value for that time"),
        (("limit", "2M", "--for", "soon"), "--for is 'soon', which is not a time"),
    ],
)
def test_what_is_refused(pusher: Pusher, store: Store, arguments: tuple[str, ...], message: str) -> None:
    done = pusher(*arguments)
    assert done.code == 2
    assert done.err.startswith(f"error: {message}")
    assert store.settings.all() == {}


def test_without_a_queue_there_is_nothing_to_show(pusher: Pusher, home: Path) -> None:
    assert json.loads(pusher("limit", "--json").out) == OFF
    assert pusher("parallel").out.startswith("Uploads at a time: off")
    assert not home.exists(), "a command that only reads creates no job store"


def test_status_shows_what_is_set(pusher: Pusher, store: Store) -> None:
    add_job(store)
    assert "limits" not in json.loads(pusher("status", "--json").out)
    pusher("limit", "2M")
    assert pusher("status").err == "Limit: 2M for all workers together.\n"
    pusher("parallel", "1")
    assert pusher("status").err.endswith("Uploads at a time: 1 for each worker.\n")
    expected = {**OFF, "limit_rate": "2M", "parallel": 1}
    for options in ((), ("--all",), ("--state", "queued"), ("1",)):
        shown = json.loads(pusher("status", "--json", *options).out)
        assert shown["limits"] == expected
        assert len(shown["jobs"]) == 1
        check("status", shown)
