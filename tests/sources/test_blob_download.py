"""Fetching a blob: breaks, ranges or none, wrong bytes, storage elsewhere, logins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pusher.config import Timeouts
from pusher.errors import (
    ConnectionBroken,
    ImageChanged,
    LayerMismatch,
    LocationRefused,
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryStalled,
    Retry,
    Stopped,
)
from pusher.oci.digest import of_bytes
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.transport import Transport
from pusher.sources.registry.blob_download import BlobDownload
from tests.registry.helpers import DATA, LOGIN, REPOSITORY
from tests.registry.pretended import Pretended, client_over
from tests.registry.sites import Seen, Site
from tests.support.fakeregistry import (
    DISTRIBUTION_3,
    SERVERLESS,
    Answer,
    BreakBody,
    FakeRegistry,
    Fault,
    On,
    Rules,
    StallBody,
    busy,
)
from tests.support.fakeregistry.wire import Reply
from tests.support.quick import QUICK
from tests.support.tokens import TokenServer, demand

SIZE = len(DATA)
DIGEST = of_bytes(DATA)


class Held:
    """A sink in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes | memoryview) -> None:
        self.data += data

    def rewind(self) -> None:
        self.data.clear()

    def reset(self) -> None:
        self.data.clear()

    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


class Fetch:
    """One blob fetched from a fake registry, as the worker does, without its pauses."""

    def __init__(self, registry: FakeRegistry, client: RegistryClient, held: bytes = b"") -> None:
        self.registry = registry
        self.sink = Held(held)
        self.notes: list[str] = []
        self.errors: list[PusherError] = []
        self.blocks = 0
        self.stop_after: int | None = None
        self._client = client

    def run(self, digest: str = DIGEST, size: int = SIZE) -> bytes:
        download = BlobDownload(
            self._client,
            REPOSITORY,
            digest,
            size,
            self.sink,
            on_bytes=self._on_bytes,
            note=self.notes.append,
        )
        for _ in range(10):
            try:
                download.run()
                return bytes(self.sink.data)
            except PusherError as error:
                if error.retry is Retry.NEVER:
                    raise
                self.errors.append(error)
        raise AssertionError(f"no end: {self.errors[-1]!r}")

    def _on_bytes(self) -> None:
        self.blocks += 1
        if self.blocks == self.stop_after:
            raise Stopped

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each GET of a blob."""
        return [record.headers.get("range") for record in self.registry.requests(On.GET_BLOB)]


@contextmanager
def fetching(
    rules: Rules = DISTRIBUTION_3,
    held: bytes = b"",
    *,
    stall: float = 30,
    login: bool = True,
    bearer: bool = False,
) -> Iterator[Fetch]:
    """A fake registry of these rules that has the blob, ``held`` of which is here already."""
    with FakeRegistry(rules, credentials=LOGIN if login and not bearer else None) as registry:
        registry.add_blob(REPOSITORY, DATA)
        transport = Transport(Timeouts(30, stall, 30))
        credential = Credential(*LOGIN, "a test") if login else None
        client = RegistryClient(
            registry.address, transport, Authenticator(registry.address, credential), policy=QUICK
        )
        try:
            yield Fetch(registry, client, held)
        finally:
            transport.close()


def test_a_blob_is_fetched_whole() -> None:
    with fetching() as fetch:
        assert fetch.run() == DATA
        assert fetch.ranges == [None]
        headers = fetch.registry.requests(On.GET_BLOB)[-1].headers
        assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("reset", [False, True])
def test_a_break_goes_on_at_the_byte_where_it_was(reset: bool) -> None:
    with fetching(login=False) as fetch:
        fetch.registry.faults.add(
            Fault(On.GET_BLOB, BreakBody(30_000, reset)), Fault(On.GET_BLOB, BreakBody(20_001, reset), nth=2)
        )
        assert fetch.run() == DATA
        assert [type(error) for error in fetch.errors] == [ConnectionBroken, ConnectionBroken]
        if not reset:  # an RST takes with it what the kernel had not delivered
            assert fetch.ranges == [None, "bytes=30000-", "bytes=50001-"]
        fetch.registry.faults.assert_all_fired()


def test_what_is_here_already_is_not_fetched_again() -> None:
    with fetching(held=DATA[:99_999], login=False) as fetch:
        assert fetch.run() == DATA
        assert fetch.ranges == ["bytes=99999-"]
        assert fetch.blocks == 1


def test_a_blob_that_is_here_to_its_end_takes_no_request() -> None:
    with fetching(held=DATA) as fetch:
        assert fetch.run() == DATA
        assert fetch.registry.requests() == []


def test_an_empty_blob_takes_no_request() -> None:
    with fetching() as fetch:
        assert fetch.run(of_bytes(b""), 0) == b""
        assert fetch.registry.requests() == []


def test_a_registry_without_ranges_starts_again() -> None:
    with fetching(SERVERLESS, login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, BreakBody(30_000)))
        assert fetch.run() == DATA
        assert fetch.ranges == [None, "bytes=30000-"]
        assert len(fetch.notes) == 1
        assert "does not continue at byte 30000" in fetch.notes[0]


@pytest.mark.parametrize(
    "said",
    [
        *("bytes 29999-99999/100000", "bytes 30001-99999/100000", "", "30000-99999/100000"),
        pytest.param(f"bytes {'3' * 5000}-99999/100000", id="a number without end"),
    ],
)
def test_another_part_than_was_asked_for_is_not_taken(said: str) -> None:
    with fetching(held=DATA[:30_000], login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, Answer(206, {"Content-Range": said}, DATA[30_000:])))
        assert fetch.run() == DATA
        assert [type(error) for error in fetch.errors] == [RegistryFault]
        assert fetch.ranges == ["bytes=30000-", None]


def test_a_range_that_is_refused_starts_again() -> None:
    with fetching(held=DATA[:30_000], login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, Answer(416)))
        assert fetch.run() == DATA
        assert fetch.ranges == ["bytes=30000-", None]


def test_wrong_bytes_are_thrown_away_and_fetched_once_more() -> None:
    with fetching(held=b"x" * 30_000, login=False) as fetch:
        assert fetch.run() == DATA
        assert fetch.ranges == ["bytes=30000-", None]
        assert "is not that blob" in fetch.notes[0]


def test_wrong_bytes_twice_are_an_error_and_nothing_of_them_stays() -> None:
    with fetching(login=False) as fetch:
        wrong = Answer(200, {}, b"x" * SIZE)
        fetch.registry.faults.add(Fault(On.GET_BLOB, wrong, times=2))
        with pytest.raises(LayerMismatch, match=fetch.registry.address):
            fetch.run()
        assert fetch.sink.size == 0
        assert len(fetch.ranges) == 2


@pytest.mark.parametrize("body", [DATA + b"x", DATA[:-1]])
def test_a_blob_of_another_size_is_refused_at_once(body: bytes) -> None:
    with fetching(login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, Answer(200, {}, body)))
        with pytest.raises(LayerMismatch, match=f"{len(body)} bytes"):
            fetch.run()
        assert fetch.blocks == 0


def test_more_bytes_than_promised_are_refused() -> None:
    """Where nothing tells it before."""
    with fetching(held=DATA[:10], login=False) as fetch:
        longer = Answer(206, {"Content-Range": f"bytes 10-{SIZE}/*"}, DATA[10:] + b"x")
        fetch.registry.faults.add(Fault(On.GET_BLOB, longer))
        with pytest.raises(LayerMismatch, match=f"more than {SIZE}"):
            fetch.run()
        assert fetch.sink.size == 0


def test_a_stall_ends_after_the_stall_timeout_and_goes_on() -> None:
    with fetching(stall=0.5, login=False) as fetch:
        stall = StallBody(after_bytes=40_000)
        fetch.registry.faults.add(Fault(On.GET_BLOB, stall))
        assert fetch.run() == DATA
        assert {type(error) for error in fetch.errors} == {RegistryStalled}  # on a busy machine another one
        assert fetch.ranges[:2] == [None, "bytes=40000-"]
        stall.release()


def test_busy_and_faults_are_for_the_caller_to_wait_out() -> None:
    with fetching(held=DATA[:10], login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, busy("7", status=429)), Fault(On.GET_BLOB, Answer(500)))
        assert fetch.run() == DATA
        assert [type(error) for error in fetch.errors][:1] == [RegistryBusy]
        assert fetch.errors[0].retry_after == 7
        assert fetch.sink.size == SIZE


def test_leaving_keeps_what_is_there() -> None:
    with fetching(login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, BreakBody(30_000)))
        fetch.stop_after = 1
        with pytest.raises(Stopped):
            fetch.run()
        kept = fetch.sink.size
        assert kept > 0
        assert fetch.run() == DATA
        assert fetch.ranges[1] == f"bytes={kept}-"


def test_a_blob_that_is_gone() -> None:
    with fetching(login=False) as fetch:
        fetch.registry.remove_blob(REPOSITORY, DIGEST)
        with pytest.raises(ImageChanged, match=fetch.registry.address) as error:
            fetch.run()
        assert "pusher enqueue docker://" in error.value.hint


# --- storage elsewhere ------------------------------------------------------------------------------------


def _redirect(fetch: Fetch, site: Site, *, times: int | None = None) -> None:
    there = f"{site.url}/bucket/blob?X-Signature=s3cr3t"
    fetch.registry.faults.add(
        Fault(
            On.GET_BLOB,
            Answer(307, {"Location": there}),
            times=times,
            where=lambda request: "authorization" in request.headers,
        )
    )


def _storage(seen: Seen) -> Reply:
    start = int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    if not start:
        return Reply(200, {}, DATA)
    return Reply(206, {"Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"}, DATA[start:])


def test_storage_on_another_host_gets_the_range_and_no_login() -> None:
    with fetching(held=DATA[:50_000]) as fetch, Site(_storage) as site:
        _redirect(fetch, site)
        assert fetch.run() == DATA
        (seen,) = site.seen
        assert seen.headers["range"] == "bytes=50000-"
        assert "authorization" not in seen.headers
        assert seen.target.endswith("?X-Signature=s3cr3t")


def test_an_address_that_ran_out_is_asked_for_again() -> None:
    def expired(seen: Seen) -> Reply:
        return (
            Reply(403, {}, b"<Error>Request has expired</Error>") if len(site.seen) == 1 else _storage(seen)
        )

    with fetching(held=DATA[:50_000]) as fetch, Site(expired) as site:
        _redirect(fetch, site)
        assert fetch.run() == DATA
        assert [type(error) for error in fetch.errors] == [RegistryFault]
        assert "s3cr3t" not in fetch.errors[0].message


def test_a_registry_of_the_internet_leads_to_no_private_address() -> None:
    blob = f"https://r.example/v2/{REPOSITORY}/blobs/{DIGEST}"
    client = client_over(Pretended({f"GET {blob}": (307, {"Location": "http://169.254.169.254/meta"})}))
    with pytest.raises(PusherError):
        BlobDownload(client, REPOSITORY, DIGEST, SIZE, Held()).run()
    client = client_over(Pretended({f"GET {blob}": (307, {"Location": "https://169.254.169.254/meta"})}))
    with pytest.raises(LocationRefused):
        BlobDownload(client, REPOSITORY, DIGEST, SIZE, Held()).run()


# --- who may ----------------------------------------------------------------------------------------------


def test_only_the_right_to_pull_is_asked_for_and_a_token_that_ran_out_is_renewed() -> None:
    with TokenServer(login=LOGIN) as tokens, fetching(bearer=True) as fetch:
        fetch.registry.faults.add(demand(tokens))
        tokens.allowed = lambda resource, action: action == "pull"
        fetch.registry.faults.add(Fault(On.GET_BLOB, BreakBody(30_000), where=_has_token))
        download_once(fetch)
        tokens.revoke()
        assert fetch.run() == DATA
        assert {asked.scopes for asked in tokens.asked} == {(f"repository:{REPOSITORY}:pull",)}
        assert len(tokens.asked) == 2
        assert fetch.ranges[-1] == "bytes=30000-"


def _has_token(request: object) -> bool:
    return "authorization" in request.headers  # type: ignore[attr-defined]


def download_once(fetch: Fetch) -> None:
    with pytest.raises(ConnectionBroken):
        BlobDownload(fetch._client, REPOSITORY, DIGEST, SIZE, fetch.sink).run()


def test_a_login_that_may_not_pull_is_told_so() -> None:
    with TokenServer(login=LOGIN) as tokens, fetching(bearer=True) as fetch:
        fetch.registry.faults.add(demand(tokens))
        tokens.allowed = lambda resource, action: False
        with pytest.raises(PermissionDenied) as error:
            fetch.run()
        assert "pull" in error.value.hint
        assert "push to" not in error.value.hint


def test_a_refusal_names_the_right_that_is_lacking() -> None:
    with fetching(login=False) as fetch:
        fetch.registry.faults.add(Fault(On.GET_BLOB, Answer(403)))
        with pytest.raises(PermissionDenied, match=fetch.registry.address) as error:
            fetch.run()
        assert "permission to pull" in error.value.hint
