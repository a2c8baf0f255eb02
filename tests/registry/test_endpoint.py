"""The first request to a registry: whether it is one, how it is reached, who we are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pusher.errors import (
    ConnectionBroken,
    CredentialsMissing,
    CredentialsRejected,
    NotARegistry,
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryUnreachable,
)
from pusher.registry.http.answer import Answer
from pusher.registry.http.transport import Transport
from tests.registry.pretended import LOGIN, Pretended, client_over
from tests.registry.sites import PATIENT, transport_of
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On
from tests.support.fakeregistry import Answer as Scripted

REPOSITORY = "team/app"
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(PATIENT)) as open_one:
        yield open_one


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS, credentials=LOGIN) as running:
        yield running


def test_greeting_logs_in_once_and_is_remembered(registry: FakeRegistry, transport: Transport) -> None:
    client = client_over(transport, registry.address)
    assert client.ping() == f"http://{registry.address}/v2/"
    client.ping()
    assert not client.blob_exists(REPOSITORY, DIGEST)
    assert [record.status for record in registry.requests()] == [401, 200, 404]
    assert registry.requests()[1].headers["authorization"] == "Basic YW5uOnMzY3IzdA=="


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            Scripted(404, {"Content-Type": "text/html"}, b"<html>no</html>"),
            NotARegistry,
            "not a container registry",
        ),
        (
            Scripted(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Hi</html>"),
            NotARegistry,
            "200",
        ),
        (Scripted(302, {"Location": "/v2/"}), NotARegistry, "302"),
        (Scripted(405), NotARegistry, "405"),
        (Scripted(403), PermissionDenied, "403"),
        (Scripted(500), RegistryFault, "500"),
        (Scripted(503, {"Retry-After": "3"}), RegistryBusy, "503"),
        (Scripted(429), RegistryBusy, "429"),
    ],
    ids=lambda value: getattr(value, "status", None),
)
def test_greeting_refused(
    registry: FakeRegistry, transport: Transport, answer: Scripted, error: type[PusherError], words: str
) -> None:
    registry.faults.add(Fault(On.PING, answer, times=None))
    with pytest.raises(error) as raised:
        client_over(transport, registry.address).ping()
    assert type(raised.value) is error
    assert registry.address in raised.value.message
    assert words in raised.value.message
    assert raised.value.hint


def test_login_wanted_and_none_known(registry: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(CredentialsMissing):
        client_over(transport, registry.address, login=None).ping()


def test_wrong_password(registry: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(CredentialsRejected) as error:
        client_over(transport, registry.address, login=("ann", "wr0ng")).ping()
    assert "for user ann (a test)" in error.value.message
    assert "wr0ng" not in error.value.message + error.value.hint
    assert len(registry.requests()) == 2


def test_a_failed_greeting_is_tried_again(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.add(Fault(On.PING, Scripted(500)))
    client = client_over(transport, registry.address)
    with pytest.raises(RegistryFault):
        client.ping()
    assert client.ping()


def test_https_only_beyond_this_machine() -> None:
    pretended = Pretended({})
    assert client_over(pretended).ping() == "https://r.example/v2/"
    assert client_over(Pretended({}), "r.example:5000", plain_http=True).ping() == "http://r.example:5000/v2/"
    assert {url.partition(":")[0] for _, url, _ in pretended.sent} == {"https"}


@pytest.mark.parametrize("http", [ConnectionBroken, 400])
def test_https_after_http_on_this_machine(http: type[PusherError] | int) -> None:
    class TlsOnly(Pretended):
        def send(self, method: str, url: str, **options: object) -> Answer:
            if url.startswith("https"):
                return Answer(method, url, 200)
            if isinstance(http, int):
                return Answer(method, url, http, {}, b"Client sent an HTTP request to an HTTPS server.")
            raise http("broken")

    for host in ("localhost:5000", "127.0.0.1:5000", "[::1]:5000"):
        assert client_over(TlsOnly({}), host).ping() == f"https://{host}/v2/"


def test_nobody_there_is_not_asked_twice(transport: Transport) -> None:
    with FakeRegistry() as registry:
        registry.stop()
        with pytest.raises(RegistryUnreachable):
            client_over(transport, registry.address).ping()
