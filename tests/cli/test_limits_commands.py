"""``pusher limit`` and ``pusher parallel``, and what ``status`` shows of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.cli.test_output_schema import check

OFF = dict.fromkeys(f"{name}{end}" for name in ("limit_rate", "parallel") for end in ("", "_until", "_then"))


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
    assert pusher("parallel").out == "Uploads at a time: as each worker was started (--parallel).\n"
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


def test_what_was_set_before_comes_back(pusher: Pusher, store: Store) -> None:
    pusher("limit", "5M")
    for value in ("1M", "2M"):  # a second one for a time changes nothing about that
        said = pusher("limit", value, "--for", "1h").err
        assert said.startswith(f"Limit: {value} for all workers together, until 20")
        assert said.endswith("; then 5M.\n")
    off = pusher("limit", "off", "--for", "1h").err
    assert off.startswith("Limit: off; each worker has what it was started with (--limit-rate), until 20")
    limits = json.loads(pusher("limit", "--json").out)
    check("limits", limits)
    assert (limits["limit_rate"], limits["limit_rate_then"]) == (None, "5M")
    assert pusher("limit", "6M").err == "Limit: 6M for all workers together.\n"
    pusher("parallel", "4")
    assert pusher("parallel", "1", "--for", "30m").err.endswith("; then 4.\n")
    assert json.loads(pusher("parallel", "--json").out)["parallel_then"] == 4
    pusher("limit", "off")
    off = pusher("limit", "off", "--for", "1h").err
    assert off == "Limit: off; each worker has what it was started with (--limit-rate).\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("limit", "3X"), "RATE is '3X', which is not a size"),
        (("limit", ""), "RATE is '', which is not a size"),
        (("limit", "100"), "RATE is '100', which is less than 1024 bytes"),
        (("parallel", "0"), "N is '0'"),
        (("parallel", "65"), "N is '65'"),
        (("limit", "-5"), "a number cannot be negative here: '-5'"),
        (("parallel", "-1"), "a number cannot be negative here: '-1'"),
        (("limit", "off", "--for", "soon"), "--for is 'soon', which is not a time"),
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
    assert pusher("parallel").out.startswith("Uploads at a time: as each worker")
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
