"""The requests of a push: Locations, redirects, logins, manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from pusher.errors import (
    AuthenticationUnsupported,
    LocationRefused,
    PermissionDenied,
    PlainHttpRefused,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryRefused,
    RegistryUnreachable,
)
from pusher.oci.manifest import Descriptor, build_manifest
from pusher.registry.client import BlobsUnknown
from pusher.registry.http.body import Body
from pusher.registry.http.transport import Transport
from tests.registry.pretended import LOGIN, Pretended, client_over
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry, Fault, On
from tests.support.fakeregistry import Answer as Scripted
from tests.support.fakeregistry.wire import Reply

REPOSITORY = "team/app"
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(PATIENT)) as open_one:
        yield open_one


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS, credentials=LOGIN) as running:
        yield running


# --- locations --------------------------------------------------------------------------------------------

POST = f"https://r.example/v2/{REPOSITORY}/blobs/uploads/"
BLOB = f"https://r.example/v2/{REPOSITORY}/blobs/{DIGEST}"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/v2/a/blobs/uploads/1?_stateHash=ab", "https://r.example/v2/a/blobs/uploads/1?_stateHash=ab"),
        ("1?x=1", POST + "1?x=1"),
        ("?x=1", POST + "?x=1"),
        ("https://r.example/up/1", "https://r.example/up/1"),
        ("https://r.example:443/up/1?a=b&a=c", "https://r.example:443/up/1?a=b&a=c"),
        ("//r.example/up", "https://r.example/up"),
        ("http://r.example/up/1?a=%3D", "https://r.example/up/1?a=%3D"),
        ("http://r.example:80/up", "https://r.example/up"),
        ("http://r.example:5000/up", "https://r.example/up"),
        (
            "https://storage.example/b?X-Sig=a%2Fb%3d%3D&z=~+",
            "https://storage.example/b?X-Sig=a%2Fb%3d%3D&z=~+",
        ),
    ],
)
def test_locations(given: str, meant: str) -> None:
    client = client_over(Pretended({f"POST {POST}": (202, {"Location": given})}))
    assert client.open_upload(REPOSITORY).location == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://r.example/v2/up/1?a=%3D", "https://r.example:5000/v2/up/1?a=%3D"),
        ("http://r.example/v2/up/1", "https://r.example:5000/v2/up/1"),
        ("https://r.example:443/v2/up/1", "https://r.example:443/v2/up/1"),
        ("https://r.example:5001/v2/up/1", "https://r.example:5001/v2/up/1"),
        ("https://storage.example/up/1", "https://storage.example/up/1"),
    ],
)
def test_a_location_that_lost_its_port_gets_it_back(given: str, meant: str) -> None:
    post = POST.replace("r.example", "r.example:5000")
    client = client_over(Pretended({f"POST {post}": (202, {"Location": given})}), "r.example:5000")
    assert client.open_upload(REPOSITORY).location == meant


def test_a_name_from_inside_is_told_as_the_registrys_word(
    registry: FakeRegistry, transport: Transport
) -> None:
    place = {"Location": "http://registry-7f9c.invalid:5000/v2/up/1"}
    registry.faults.add(Fault(On.OPEN, Scripted(202, headers=place)))
    client = client_over(transport, registry.address)
    location = client.open_upload(REPOSITORY).location
    with pytest.raises(RegistryUnreachable) as error:
        client.get_upload_status(REPOSITORY, str(location))
    assert f"registry-7f9c.invalid:5000 cannot be resolved ({registry.address} redirected to it)" in str(
        error.value.message
    )
    assert "http.host" in error.value.hint


@pytest.mark.parametrize(
    "given",
    [
        "ftp://r.example/up",
        "file:///etc/passwd",
        "http://[::1/up",
        "https://r.example:99999/up",
        "https://1\u00b27.0.0.1/up",  # which IDNA makes 127.0.0.1
    ],
)
def test_locations_that_are_none(given: str) -> None:
    client = client_over(Pretended({f"POST {POST}": (202, {"Location": given + "?k=s3cr3t"})}))
    with pytest.raises(RegistryRefused) as error:
        client.open_upload(REPOSITORY)
    assert "s3cr3t" not in error.value.message


def test_location_that_leaves_tls_for_another_host_is_refused() -> None:
    client = client_over(Pretended({f"POST {POST}": (202, {"Location": "http://other.example/up"})}))
    with pytest.raises(PlainHttpRefused):
        client.open_upload(REPOSITORY)


PRIVATE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "10.0.0.7:5000",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "[::1]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[::ffff:10.0.0.1]",
    "localhost",
    "LOCALHOST.",
    "a.localhost:5000",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_registry_of_the_internet_may_not_point_into_a_private_network(host: str) -> None:
    target = f"https://{host}/up?sig=s3cr3t"
    pretended = Pretended(
        {f"POST {POST}": (202, {"Location": target}), f"HEAD {BLOB}": (307, {"Location": target})}
    )
    client = client_over(pretended)
    for attempt in (lambda: client.open_upload(REPOSITORY), lambda: client.blob_exists(REPOSITORY, DIGEST)):
        with pytest.raises(LocationRefused) as error:
            attempt()
        assert "an address of a private network" in error.value.message
        assert "s3cr3t" not in error.value.message
    assert {url.split("/")[2] for _, url, _ in pretended.sent} == {"r.example"}


@pytest.mark.parametrize("registry", ["10.0.0.7:5000", "localhost:5000", "[::1]:5000"])
def test_registry_of_a_private_network_may(registry: str) -> None:
    post = f"http://{registry}/v2/{REPOSITORY}/blobs/uploads/"
    pretended = Pretended({f"POST {post}": (202, {"Location": "http://192.168.0.9/up"})})
    client = client_over(pretended, registry, plain_http=True)
    assert client.open_upload(REPOSITORY).location == "http://192.168.0.9/up"


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "[2606:4700::1111]", "storage.example", "deadbeef", "10.example"]
)
def test_other_hosts_of_the_internet_are_no_harm(host: str) -> None:
    target = f"https://{host}/up"
    client = client_over(Pretended({f"POST {POST}": (202, {"Location": target})}))
    assert client.open_upload(REPOSITORY).location == target


def test_answer_without_location_opens_nothing() -> None:
    with pytest.raises(RegistryFault, match="answered 202 while opening an upload"):
        client_over(Pretended({f"POST {POST}": (202, {})})).open_upload(REPOSITORY)


@pytest.mark.parametrize(
    "query",
    [
        "_state=7sJ_-x%3D%3D",
        "a=b&a=c&empty=",
        "X-Amz-Credential=AK%2F2026%2Fs3&X-Amz-SignedHeaders=host%3Bx",
        "sig=a+b/c==:@!$'(),;*~.-_",
    ],
)
def test_query_arrives_byte_by_byte(query: str, transport: Transport) -> None:
    def answer(seen: Seen) -> Reply:
        status = {"POST": 202, "PUT": 201}.get(seen.method, 200)
        return Reply(status, {"Location": f"/up/1?{query}"})

    with Site(answer) as site:
        client = client_over(transport, site.address)
        location = client.open_upload(REPOSITORY).location
        assert location is not None
        client.get_upload_status("app", location)
        client.close_upload("app", location, DIGEST)
        assert [seen.target for seen in site.seen[2:]] == [f"/up/1?{query}", f"/up/1?{query}&digest={DIGEST}"]


def test_needless_escapes_keep_their_meaning(transport: Transport) -> None:
    """requests and urllib3 write escapes in their normal form (RFC 3986 6.2.2)."""
    with Site(lambda _: Reply(200, {"Range": "0-9"})) as site:
        client_over(transport, site.address).get_upload_status("app", f"{site.url}/up?sig=%2b%3d&u=%7Eann")
        assert site.seen[-1].target == "/up?sig=%2B%3D&u=~ann"


def test_closing_a_location_without_a_query() -> None:
    url = "https://r.example/up/1"
    pretended = Pretended({f"PUT {url}?digest={DIGEST}": (201, {"Location": "/b"})})
    assert client_over(pretended).close_upload("app", url, DIGEST).ok


# --- the login stays with us ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://r.example/up", True),
        ("https://r.example:443/up", True),
        ("https://R.example/up", True),
        ("https://r.example:5000/up", False),
        ("https://other.example/up", False),
        ("https://r.example.evil.example/up", False),
        ("https://r.example@evil.example/up", False),
        ("http://r.example/up", False),
    ],
)
def test_login_goes_to_our_origin_only(url: str, ours: bool) -> None:
    pretended = Pretended({f"DELETE {url}": (204, {})})
    client = client_over(pretended)
    client.ping()
    client.delete_upload("app", url)
    assert pretended.logins[f"DELETE {url}"] is ours


def test_challenge_of_another_host_is_not_answered() -> None:
    url = "https://other.example/up?sig=s3cr3t"
    pretended = Pretended({f"GET {url}": (401, {"WWW-Authenticate": "Basic realm=x"})})
    client = client_over(pretended)
    client.ping()
    with pytest.raises(AuthenticationUnsupported) as error:
        client.get_upload_status("app", url)
    assert error.value.message == (
        "r.example sends the upload to other.example, which requires a login of its own"
    )
    assert not pretended.logins[f"GET {url}"]


def test_address_about_which_parsers_disagree() -> None:
    """urllib.parse finds r.example in it, and the connection would go to evil.example."""
    url = "https://evil.example\\@r.example/up"
    pretended = Pretended({f"POST {POST}": (202, {"Location": url}), f"DELETE {url}": (204, {})})
    client = client_over(pretended)
    with pytest.raises(RegistryRefused):
        client.open_upload(REPOSITORY)
    client.delete_upload("app", url)  # stored by an older pusher
    assert not pretended.logins[f"DELETE {url}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_head_is_redirected_without_the_login(status: int) -> None:
    storage = "https://storage.example/b?X-Sig=1"
    pretended = Pretended({f"HEAD {BLOB}": (status, {"Location": storage}), f"HEAD {storage}": (200, {})})
    assert client_over(pretended).blob_exists(REPOSITORY, DIGEST)
    assert pretended.logins[f"HEAD {BLOB}"]
    assert not pretended.logins[f"HEAD {storage}"]


@pytest.mark.parametrize(("status", "there"), [(200, True), (403, True), (404, False), (405, True)])
def test_storage_that_refuses_head(status: int, there: bool) -> None:
    """The address is signed for GET."""
    storage = "https://storage.example/b?X-Sig=1"
    pretended = Pretended({f"HEAD {BLOB}": (307, {"Location": storage}), f"HEAD {storage}": (status, {})})
    assert client_over(pretended).blob_exists(REPOSITORY, DIGEST) is there


def test_redirect_to_plain_http_is_refused() -> None:
    pretended = Pretended({f"HEAD {BLOB}": (307, {"Location": "http://r.example/b"})})
    with pytest.raises(PlainHttpRefused):
        client_over(pretended).blob_exists(REPOSITORY, DIGEST)


def test_redirects_in_a_circle_end() -> None:
    with pytest.raises(RegistryRefused):
        client_over(Pretended({f"HEAD {BLOB}": (307, {"Location": BLOB})})).blob_exists(REPOSITORY, DIGEST)


def test_redirect_to_nowhere() -> None:
    for target in ("http://[::1/", "https://r.example:99999/"):
        with pytest.raises(PusherError):
            client_over(Pretended({f"HEAD {BLOB}": (307, {"Location": target})})).blob_exists(
                REPOSITORY, DIGEST
            )


@pytest.mark.parametrize(("status", "followed"), [(307, True), (308, True), (301, False), (302, False)])
def test_upload_is_redirected_only_where_the_method_stays(status: int, followed: bool) -> None:
    target = "https://r.example/other/"
    pretended = Pretended(
        {f"POST {POST}": (status, {"Location": target}), f"POST {target}": (202, {"Location": "/up"})}
    )
    if followed:
        assert client_over(pretended).open_upload(REPOSITORY).location == "https://r.example/up"
    else:
        with pytest.raises(RegistryFault, match=f"answered {status} while opening an upload"):
            client_over(pretended).open_upload(REPOSITORY)


def test_login_on_real_sockets_stays_with_the_first_host(transport: Transport) -> None:
    with Site(lambda _: Reply(200)) as storage:

        def answer(seen: Seen) -> Reply:
            if "authorization" not in seen.headers:
                return Reply(401, {"WWW-Authenticate": "Basic realm=x"})
            return Reply(307, {"Location": storage.url + "/b"}) if seen.method == "HEAD" else Reply(200)

        with Site(answer) as site:
            assert client_over(transport, site.address).blob_exists(REPOSITORY, DIGEST)
            assert [seen.headers.get("authorization", "")[:6] for seen in site.seen] == [
                "",
                "Basic ",
                "Basic ",
            ]
        [stored] = storage.seen
        assert "authorization" not in stored.headers


# --- blobs and manifests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, False), (405, False)])
def test_head(status: int, there: bool) -> None:
    assert client_over(Pretended({f"HEAD {BLOB}": (status, {})})).blob_exists(REPOSITORY, DIGEST) is there


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RegistryRefused), (403, PermissionDenied), (500, RegistryFault), (503, RegistryBusy)],
)
def test_head_refused(status: int, error: type[PusherError]) -> None:
    with pytest.raises(error):
        client_over(Pretended({f"HEAD {BLOB}": (status, {})})).blob_exists(REPOSITORY, DIGEST)


MANIFEST = build_manifest(
    Descriptor("application/x", DIGEST, 3), [Descriptor("application/y", OTHER_DIGEST, 4)]
)


@pytest.fixture(params=[SERVERLESS, DISTRIBUTION_3], ids=lambda rules: rules.name)
def any_registry(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with FakeRegistry(request.param, credentials=LOGIN) as running:
        yield running


def test_manifest_is_stored_byte_by_byte(any_registry: FakeRegistry, transport: Transport) -> None:
    blobs = [any_registry.add_blob(REPOSITORY, data) for data in (b"one", b"four")]
    first, second = (Descriptor("application/x", digest, 3) for digest in blobs)
    manifest = build_manifest(first, [second])
    client = client_over(transport, any_registry.address)
    client.put_manifest(REPOSITORY, "1.0", manifest)
    client.put_manifest(REPOSITORY, manifest.digest, manifest)
    for reference in ("1.0", manifest.digest):
        assert any_registry.manifests[REPOSITORY][reference] == (manifest.media_type, manifest.raw)


def test_missing_blobs_are_named(any_registry: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(BlobsUnknown) as error:
        client_over(transport, any_registry.address).put_manifest(REPOSITORY, "1.0", MANIFEST)
    assert error.value.digests == (DIGEST,)
    assert isinstance(error.value.refusal, RegistryRefused)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RegistryRefused), (413, RegistryRefused), (403, PermissionDenied), (500, RegistryFault)],
)
def test_manifest_refused(
    any_registry: FakeRegistry, transport: Transport, status: int, error: type[PusherError]
) -> None:
    body = json.dumps({"errors": [{"code": "MANIFEST_INVALID", "message": "not this one"}]}).encode()
    any_registry.faults.add(Fault(On.PUT_MANIFEST, Scripted(status, body=body)))
    with pytest.raises(error) as raised:
        client_over(transport, any_registry.address).put_manifest(REPOSITORY, "1.0", MANIFEST)
    assert f"{status} while storing the manifest {REPOSITORY}:1.0: not this one" in raised.value.message


def test_exact_headers_of_a_chunk(
    registry: FakeRegistry, transport: Transport, blob_body: Callable[[], Body]
) -> None:
    client = client_over(transport, registry.address)
    location = client.open_upload(REPOSITORY).location
    assert location is not None
    client.send_chunk("app", location, blob_body(), 0)
    opening, chunk = registry.requests(On.OPEN, On.CHUNK)
    assert opening.headers["content-length"] == "0"
    assert (chunk.headers["content-range"], chunk.headers["content-length"]) == ("0-9", "10")
    assert chunk.headers["content-type"] == "application/octet-stream"
    assert chunk.headers["authorization"].startswith("Basic ")
    assert "connection" not in chunk.headers
    client.closes_connections = True
    client.send_chunk("app", location, blob_body(), 0)
    assert registry.requests(On.CHUNK)[1].headers["connection"] == "close"
