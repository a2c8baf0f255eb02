"""The shaky link, with a registry behind it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.fakeregistry import DISTRIBUTION_2, DISTRIBUTION_3, FakeRegistry, Fault, On, Stall
from tests.support.link import ShakyLink
from tests.support_tests.client import Client, digest_of, random_bytes

DATA = random_bytes(300_000)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as running:
        yield running


def test_good_link_changes_nothing(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address) as link, Client(link.address) as client:
        digest = client.push(DATA)
        assert client.get_blob(digest).body == DATA
        assert (link.connections, link.resets) == (1, 0)
        assert link.bytes_sent > len(DATA)
        assert link.bytes_received > len(DATA)


def test_absolute_locations_lead_through_the_link() -> None:
    with (
        FakeRegistry(DISTRIBUTION_2) as registry,
        ShakyLink(registry.address) as link,
        Client(link.address) as client,
    ):
        assert client.open().location.startswith(f"http://{link.address}/v2/")


def test_reset_every_so_many_bytes_of_a_connection(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, reset_every=100_000) as link, Client(link.address) as client:
        location = client.open().location
        for _ in range(2):
            with pytest.raises(ConnectionError):
                client.patch(location, DATA)
        assert (link.resets, link.bytes_sent, link.connections) == (2, 200_000, 2)
        link.reset_every = None
        assert client.status(location).status == 204


def test_reset_every_so_many_bytes_in_all(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, reset_every_total=100_000) as link, Client(link.address) as client:
        client.push(DATA[:60_000])
        with pytest.raises(ConnectionError):
            client.push(DATA[:60_001])
        assert (link.resets, link.bytes_sent) == (1, 100_000)
        client.push(DATA[:60_002])


def test_upload_goes_through_a_link_that_always_breaks(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, reset_every=50_000) as link, Client(link.address) as client:
        location, at, broken = client.open().location, 0, 0
        while at < len(DATA):
            try:
                location = client.patch(location, DATA[at:], at).location
                at = len(DATA)
            except ConnectionError:
                broken += 1
                client.connection.close()
                _wait_until_finished(registry, On.CHUNK, broken)
                status = client.status(location)
                location, at = status.location, int((status.range or "").split("-")[1]) + 1
                client.connection.close()
        assert client.close(location, digest_of(DATA)).status == 201
        assert broken >= 6


def test_rate(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, rate=1_000_000) as link, Client(link.address) as client:
        begun = time.monotonic()
        client.push(DATA)
        assert time.monotonic() - begun >= 0.3


def test_latency(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, latency=0.05) as link, Client(link.address) as client:
        begun = time.monotonic()
        client.open()
        assert time.monotonic() - begun >= 0.1


def test_stall_and_cut(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address, stall_after=100_000) as link, Client(link.address) as client:
        target = urlsplit(client.open().location)
        client.connection.request("PUT", f"{target.path}?{target.query}&digest={digest_of(DATA)}", DATA)
        registry.wait_for(lambda r: bool(r.requests(On.CLOSE)))
        while link.bytes_sent < 100_000:
            time.sleep(0.01)
        client.connection.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.connection.getresponse()
        assert link.bytes_sent == 100_000
        assert not registry.requests(On.CLOSE)[0].finished
        link.cut()
        _wait_until_finished(registry, On.CLOSE, 1)


def test_cut_resets_while_the_registry_stalls(registry: FakeRegistry) -> None:
    registry.faults.add(Fault(On.CLOSE, Stall(after_bytes=0)))
    with ShakyLink(registry.address) as link, Client(link.address) as client:
        location = client.open().location

        def cut_in_the_middle() -> None:
            registry.wait_for(lambda r: len(r.log) == 2)
            link.cut()

        cutter = threading.Thread(target=cut_in_the_middle)
        cutter.start()
        with pytest.raises(ConnectionError):
            client.close(location, digest_of(b""), bytes(20_000_000))
        cutter.join(60)
        assert link.resets == 1


def test_block_and_unblock(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address) as link, Client(link.address) as client:
        client.open()
        link.stop()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            client.open()
        with pytest.raises(ConnectionRefusedError):
            client.open()
        link.start()
        assert client.open().status == 202


def test_registry_that_is_gone_looks_like_a_reset(registry: FakeRegistry) -> None:
    with ShakyLink(registry.address) as link, Client(link.address) as client:
        registry.stop()
        with pytest.raises(ConnectionError):
            client.open()
        registry.start()
        assert client.open().status == 202


def _wait_until_finished(registry: FakeRegistry, kind: On, count: int) -> None:
    registry.wait_for(lambda r: [record.finished for record in r.requests(kind)] == [True] * count)
