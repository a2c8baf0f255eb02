"""``pusher registry``: what pushes have taught, shown and forgotten."""

from __future__ import annotations

import json

from pusher.store.store import Store
from tests.cli.conftest import Pusher

HOST = "registry.example.com"


def teach(store: Store) -> None:
    store.facts.update(
        HOST, max_chunk=4 * 1024**2, profile="monolithic", uplink=2e6, carries=20 * 1024**2, breaks=3
    )
    store.facts.update(HOST, link_rate=8e6, gzip_level=9)
    store.facts.update("other.example.com", carries=5e6, breaks=0)


def test_what_is_known_of_one_registry(pusher: Pusher, store: Store) -> None:
    teach(store)
    out = pusher("registry", HOST).out
    for part in (
        "profile     monolithic",
        "chunks      at most 4.0 MiB: larger ones were refused (learned ",
        "speed       1.9 MiB/s an upload",
        "gzip        level 9 at 7.6 MiB/s in all",
        "link        broke 3 times, an estimated 20.0 MiB between two breaks",
    ):
        assert part in out
    (known,) = json.loads(pusher("registry", HOST, "--json").out)["registries"]
    assert known.pop("learned_at") is not None
    assert known == {
        "registry": HOST,
        "profile": "monolithic",
        "max_chunk": 4 * 1024**2,
        "bytes_per_second": 2_000_000,
        "link_bytes_per_second": 8_000_000,
        "gzip_level": 9,
        "bytes_between_breaks": 20 * 1024**2,
        "breaks": 3,
    }


def test_a_link_that_never_broke_is_not_said_to_break(pusher: Pusher, store: Store) -> None:
    teach(store)
    assert "has held so far" in pusher("registry", "other.example.com").out
    store.facts.update("third.example.com", carries=15e6, breaks=1)
    assert "link        broke once\n" in pusher("registry", "third.example.com").out
    store.facts.forget("third.example.com")
    known = json.loads(pusher("registry", "--json").out)["registries"]
    assert [facts["registry"] for facts in known] == ["other.example.com", HOST]
    assert known[0]["bytes_between_breaks"] is None


def test_it_is_forgotten(pusher: Pusher, store: Store) -> None:
    teach(store)
    assert "Forgot" in pusher("registry", HOST, "--forget").err
    assert store.facts.get(HOST).max_chunk is None
    assert "nothing is known yet" in pusher("registry", HOST).out
    assert "Nothing is known" in pusher("registry", HOST, "--forget").err
    assert pusher("registry", "--forget").code == 2
