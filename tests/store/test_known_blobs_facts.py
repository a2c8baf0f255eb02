"""What is remembered of blobs and registries."""

from __future__ import annotations

from dataclasses import replace

from pusher.oci.layer_blob import LayerBlob
from pusher.store.records import RegistryFacts
from pusher.store.store import Store
from tests.support.databases import REGISTRY, FakeClock, digest

BLOB = LayerBlob(digest("a"), 500, "isal-1.8:2", "application/gzip", digest("1"), 1500)


def test_memos_come_back_the_newest_first(store: Store, clock: FakeClock) -> None:
    assert store.known_blobs.of_layers([digest("1")]) == {digest("1"): []}
    store.known_blobs.remember(BLOB)
    clock.advance(1)
    original = replace(BLOB, compression="original", digest=digest("b"), uncompressed_size=None)
    store.known_blobs.remember(original)
    assert store.known_blobs.of_layers([digest("1"), digest("2")]) == {
        digest("1"): [original, BLOB],
        digest("2"): [],
    }


def test_a_memo_of_the_same_blob_is_replaced(store: Store, clock: FakeClock) -> None:
    store.known_blobs.remember(replace(BLOB, uncompressed_size=None))
    clock.advance(1)
    store.known_blobs.remember(BLOB)
    assert store.known_blobs.of_layers([digest("1")]) == {digest("1"): [BLOB]}


def test_configs_are_kept_byte_for_byte(store: Store) -> None:
    content = bytes(range(256))
    assert store.documents.get(digest("c")) is None
    store.documents.put(digest("c"), content)
    store.documents.put(digest("c"), content)
    assert store.documents.get(digest("c")) == content


def test_facts_are_updated_one_by_one(store: Store) -> None:
    def known() -> RegistryFacts:
        return replace(store.facts.get(REGISTRY), limited_at=None)

    assert known() == RegistryFacts(REGISTRY)
    store.facts.update(REGISTRY, max_chunk=1 << 40)
    assert known() == RegistryFacts(REGISTRY, max_chunk=1 << 40)
    store.facts.update(REGISTRY, uplink=1.5, profile="distribution")
    assert known() == RegistryFacts(REGISTRY, max_chunk=1 << 40, uplink=1.5, profile="distribution")
    store.facts.update(REGISTRY, uplink=2e9, carries=4.5e7, breaks=3, max_chunk=None)
    assert known() == RegistryFacts(REGISTRY, uplink=2e9, profile="distribution", carries=4.5e7, breaks=3)
    assert store.facts.get("other.example.com") == RegistryFacts("other.example.com")


def test_what_was_refused_has_an_age(store: Store, clock: FakeClock) -> None:
    store.facts.update(REGISTRY, uplink=1.5)
    assert store.facts.get(REGISTRY).limited_at is None
    store.facts.update(REGISTRY, max_chunk=1 << 20)
    learned = store.facts.get(REGISTRY).limited_at
    clock.advance(30)
    store.facts.update(REGISTRY, uplink=2.5)
    assert store.facts.get(REGISTRY).limited_at == learned


def test_what_was_refused_is_forgotten_and_the_link_is_not(store: Store) -> None:
    for registry, profile in ((REGISTRY, "monolithic"), ("other.example.com", "distribution-2")):
        store.facts.update(registry, max_chunk=1 << 20, profile=profile, carries=4.5e7)
        store.facts.forget_limits(registry)
    first, other = store.facts.all() if REGISTRY < "other.example.com" else store.facts.all()[::-1]
    assert (first.max_chunk, first.profile, first.carries) == (None, None, 4.5e7)
    assert (other.max_chunk, other.profile, other.carries) == (None, "distribution-2", 4.5e7)
    assert (store.facts.forget(REGISTRY), store.facts.forget(REGISTRY)) == (True, False)
    assert store.facts.get(REGISTRY) == RegistryFacts(REGISTRY)
