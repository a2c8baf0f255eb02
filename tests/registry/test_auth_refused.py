"""Logins that do not do, and ways to log in that are not known."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import pytest

from pusher.errors import (
    AuthenticationUnsupported,
    CredentialsMissing,
    CredentialsRejected,
    LocationRefused,
    PermissionDenied,
    PusherError,
    RegistryRefused,
)
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.transport import Transport
from tests.registry.guarded import ANN, DIGEST, PUSH, REPOSITORY, World, opened, world
from tests.support.fakeregistry import Action, Fault, On
from tests.support.fakeregistry import Answer as Scripted
from tests.support.fakeregistry.rules import Exchange
from tests.support.fakeregistry.wire import Reply
from tests.support.tokens import Demand


@pytest.fixture
def there() -> Iterator[World]:
    with world() as running:
        yield running


# --- what is lacking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tells_scope", [True, False])
def test_login_that_may_not_push(tells_scope: bool) -> None:
    with world(tells_scope=tells_scope) as there:
        there.tokens.allowed = lambda _, action: action == "pull"
        client = there.client()
        assert not client.blob_exists(REPOSITORY, DIGEST)
        with pytest.raises(PermissionDenied) as error:
            client.open_upload(REPOSITORY)
        assert error.value.message == (
            f"{there.registry.address} does not allow {PUSH} to the login for user ann (a test): "
            "authentication required"
        )
        assert "permission to push" in error.value.hint
        assert len(there.asked) == 2, "the right may have been given since"


def test_a_scope_that_the_registry_asks_for_is_asked_for(there: World, blob_body: Callable[[], Body]) -> None:
    """Once: what a request was found to need is remembered."""
    needs = "repository:mirror/team/app:pull,push"

    class Elsewhere(Action):
        def answer(self, exchange: Exchange) -> Reply | None:
            token = exchange.request.headers.get("authorization", "")
            if there.tokens.refusal(token, {"repository:mirror/team/app": {"push"}}) is None:
                return None
            challenge = f'Bearer realm="{there.tokens.realm}",scope="{needs}",error="insufficient_scope"'
            return Reply(401, {"WWW-Authenticate": challenge})

    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.CHUNK, Elsewhere(), times=None))
    there.registry.faults.add(Fault(On.PING, Demand(there.tokens)))
    client = there.client()
    location = opened(client)
    for start in (0, 10):
        answer = client.send_chunk(REPOSITORY, location, blob_body(), start)
        assert answer.status == 202
        location = client.location_of(answer) or location
    assert there.asked == [(PUSH,), (needs, PUSH)]
    assert there.bodies() == [10, 10, 10]


def test_delete_without_the_right_is_no_error(there: World) -> None:
    """distribution wants ``delete`` for it, which those who push seldom have."""
    client = there.client()
    location = opened(client)
    assert client.delete_upload(REPOSITORY, location).status == 403
    assert there.asked[-1] == (f"repository:{REPOSITORY}:delete", PUSH)
    there.tokens.allowed = lambda *_: True
    assert client.delete_upload(REPOSITORY, location).ok


def test_token_that_the_registry_does_not_believe(there: World) -> None:
    there.tokens.make = lambda granted: "forged"  # type: ignore[method-assign]
    with pytest.raises(CredentialsRejected) as error:
        there.client().blob_exists(REPOSITORY, DIGEST)
    assert "rejects the token that its own token server has just issued" in error.value.message
    assert "forged" not in error.value.message
    assert len(there.asked) == 1


def test_nobody_is_known(there: World) -> None:
    with pytest.raises(CredentialsMissing) as error:
        there.client(None).open_upload(REPOSITORY)
    assert f"issues no token for {PUSH} without a login" in error.value.message
    assert error.value.hint == f"pusher login {there.registry.address}"


def test_anonymous_may_pull_only(there: World) -> None:
    there.tokens.anonymous = True
    there.tokens.allowed = lambda _, action: action == "pull"
    client = there.client(None)
    assert not client.blob_exists(REPOSITORY, DIGEST)
    with pytest.raises(CredentialsMissing) as error:
        client.open_upload(REPOSITORY)
    assert f"pusher login {there.registry.address}" in error.value.hint


# --- other ways -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ("Negotiate", "asks for Negotiate authentication"),
        ("Negotiate, NTLM", "asks for Negotiate, Ntlm authentication"),
        ('Bearer service="no realm"', "asks for a token but does not say where to get one"),
        ("Bearer", "asks for a token but does not say where to get one"),
        ('Bearer realm=""', "asks for a token but does not say where to get one"),
        ('Negotiate, Bearer service="r"', "asks for a token but does not say where to get one"),
    ],
)
def test_unsupported(there: World, offered: str, words: str) -> None:
    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.ANY, Scripted(401, {"WWW-Authenticate": offered}), times=None))
    with pytest.raises(AuthenticationUnsupported) as error:
        there.client().ping()
    assert words in error.value.message
    assert "the registry's administrator" in error.value.hint


@pytest.mark.parametrize(
    "offered",
    [
        'Negotiate, Basic realm="r"',
        "Basic",
        'NTLM TlRMTVNTUAA=, Negotiate, basic realm="a, Bearer b"',
        'Bearer service="no realm", Basic realm="r"',
        'Bearer realm="", Basic',
    ],
)
def test_basic_beside_what_is_not_spoken(there: World, offered: str) -> None:
    class Guard(Action):
        def answer(self, exchange: Exchange) -> Reply | None:
            sent = exchange.request.headers.get("authorization", "")
            return None if sent.startswith("Basic ") else Reply(401, {"WWW-Authenticate": offered})

    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.ANY, Guard(), times=None))
    assert not there.client().blob_exists(REPOSITORY, DIGEST)


def test_realm_without_a_host(there: World) -> None:
    """nginx before a registry may give a path alone."""
    there.registry.faults.clear()
    challenge = {"WWW-Authenticate": 'Bearer realm="/token",service="r"'}
    there.registry.faults.add(Fault(On.PING, Scripted(401, challenge), times=None))
    with pytest.raises(PusherError) as error:
        there.client().ping()
    assert error.value.message.startswith(f"{there.registry.address} answered 404 while asking for a token")


def test_realm_that_is_no_address(there: World) -> None:
    there.registry.faults.clear()
    challenge = {"WWW-Authenticate": 'Bearer realm="ldap://directory/token",service="r"'}
    there.registry.faults.add(Fault(On.PING, Scripted(401, challenge), times=None))
    with pytest.raises(RegistryRefused) as error:
        there.client().ping()
    assert "sent a location that is not an http URL" in error.value.message


def test_password_that_ends_with_a_line_break(there: World) -> None:
    echoed = Credential("ann", "s3cr3t\n", "a test")
    with pytest.raises(CredentialsRejected) as error:
        there.client(echoed).blob_exists(REPOSITORY, DIGEST)
    assert "ends with a line break, as `echo` adds one" in error.value.hint
    assert "s3cr3t" not in f"{error.value} {error.value.hint}"
    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.ANY, Scripted(401, {"WWW-Authenticate": "Basic"}), times=None))
    with pytest.raises(CredentialsRejected) as error:
        there.client(echoed).ping()
    assert "ends with a line break, as `echo` adds one" in error.value.hint


def test_password_that_is_no_text(there: World) -> None:
    """As Latin-1 in a file or a variable: the bytes are sent as they are."""
    sent: list[str] = []

    class Note(Action):
        def answer(self, exchange: Exchange) -> Reply | None:
            sent.append(exchange.request.headers.get("authorization", ""))
            return Reply(401, {"WWW-Authenticate": "Basic"})

    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.ANY, Note(), times=None))
    for password in ("s\udce9cret", "s\ud800cret"):
        with pytest.raises(CredentialsRejected):
            there.client(Credential("ann", password, "a test")).ping()
    assert base64.b64encode(b"ann:s\xe9cret").decode() in sent[1]


def test_basic_wants_a_password(there: World) -> None:
    there.registry.faults.clear()
    there.registry.faults.add(Fault(On.ANY, Scripted(401, {"WWW-Authenticate": "Basic"}), times=None))
    for credential in (
        Credential("<token>", "", "a helper", identity_token="1d"),
        Credential("", "", "a helper", registry_token="1d"),
    ):
        with pytest.raises(AuthenticationUnsupported) as error:
            there.client(credential).ping()
        assert "a helper has a token" in error.value.message


def test_password_of_any_characters(there: World) -> None:
    login = ("änn", "pä:ss wörd\n")
    there.tokens.login = login
    there.client(Credential(*login, "a test")).ping()
    assert there.tokens.asked[0].login == login


def test_scheme_is_sent_with_its_case() -> None:
    """serverless-registry compares it so, whatever the registry's challenge writes."""
    with world(scheme="bEARER") as there:
        assert not there.client().blob_exists(REPOSITORY, DIGEST)
        assert there.registry.requests()[-1].headers["authorization"].startswith("Bearer ")


def test_realm_of_a_private_network(there: World) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="https://169.254.169.254/token"'}

    class Hostile(Transport):
        def __init__(self) -> None:
            self.sent: list[str] = []

        def send(self, method: str, url: str, **_: object) -> Answer:
            self.sent.append(url)
            return Answer(method, url, 401, challenge)

    hostile = Hostile()
    client = RegistryClient("r.example", hostile, Authenticator("r.example", ANN))
    for _ in range(2):
        with pytest.raises(LocationRefused) as error:
            client.blob_exists(REPOSITORY, DIGEST)
        assert "r.example redirects the login to 169.254.169.254" in error.value.message
    assert set(hostile.sent) == {"https://r.example/v2/"}
