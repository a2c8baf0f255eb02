"""The log of requests: what was asked and answered, and nothing that must not be told."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.errors import RegistryUnreachable
from pusher.registry.http.body import BlobFile, Body
from pusher.registry.http.redaction import for_display, redact, redact_headers
from pusher.registry.http.transport import Transport
from tests.registry.helpers import RULES, pushing
from tests.registry.sites import PATIENT, Site, transport_of
from tests.registry.test_secrets import secrets_of
from tests.support.fakeregistry.wire import Reply

SECRET = "s3cr3t-value"


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(PATIENT)) as open_one:
        yield open_one


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "pusher.http" and record.levelno == level]


# --- a line a request -------------------------------------------------------------------------------------


def test_a_line_a_request(transport: Transport, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    body = Body(BlobFile("sha256:" + "0" * 64, 1000, tmp_path / "file"), 0, 1000)
    with Site(lambda _: Reply(202)) as site, caplog.at_level(logging.INFO):
        transport.send(
            "PATCH", f"{site.url}/v2/a/blobs/uploads/1?_state={SECRET}&digest=sha256:ab", body=body
        )
        transport.send("GET", f"{site.url}/v2/")
    first, second = lines(caplog, logging.INFO)
    url = f"{site.url}/v2/a/blobs/uploads/1?_state=…&digest=sha256:ab"
    seconds = first.__dict__["seconds"]
    assert first.getMessage() == f"PATCH {url} 202 ({seconds:.3f} s, 1000 bytes sent)"
    fields = {name: first.__dict__[name] for name in ("method", "url", "status", "bytes")}
    assert fields == {"method": "PATCH", "url": url, "status": 202, "bytes": 1000}
    assert 0 <= seconds < 60
    assert second.getMessage().startswith(f"GET {site.url}/v2/ 202 (")
    assert lines(caplog, logging.DEBUG) == []


def test_a_request_that_fails(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as bound, caplog.at_level(logging.INFO):
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(RegistryUnreachable):
            transport.send("GET", f"http://{address}/v2/?sig={SECRET}")
    [line] = lines(caplog, logging.INFO)
    assert f"failed: {address} refuses the connection" in line.getMessage()
    assert line.__dict__["status"] is None


# --- headers ----------------------------------------------------------------------------------------------


def test_headers(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    given = {"Authorization": f"Bearer {SECRET}", "Content-Range": "0-9", "X-Registry-Token": SECRET}
    told = {
        "Location": f"/v2/a/blobs/uploads/1?_state={SECRET}",
        "Set-Cookie": f"session={SECRET}; Path=/",
        "WWW-Authenticate": 'Bearer realm="https://a.example/token",service="r"',
        "Range": "0-9",
        "Link": f'<https://r.example/v2/x?sig={SECRET}>; rel="next"',
    }
    with Site(lambda _: Reply(202, told)) as site, caplog.at_level(logging.DEBUG):
        transport.send("PATCH", f"{site.url}/v2/?_state={SECRET}", headers=given)
    asked, answered = (record.getMessage() for record in lines(caplog, logging.DEBUG))
    assert asked.splitlines()[0] == f"> PATCH {site.url}/v2/?_state=…"
    for line in ("> Authorization: Bearer …", "> Content-Range: 0-9", "> X-Registry-Token: …"):
        assert line in asked.splitlines()
    assert "> User-Agent: pusher/" in asked
    for line in (
        "< 202",
        "< Location: /v2/a/blobs/uploads/1?_state=…",
        "< Set-Cookie: …",
        '< WWW-Authenticate: Bearer realm="https://a.example/token",service="r"',
        "< Range: 0-9",
        '< Link: <https://r.example/v2/x?…>; rel="next"',
    ):
        assert line in answered.splitlines()
    assert SECRET not in caplog.text


def test_nothing_secret_in_the_log_of_a_push(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pushing(RULES[kind], tmp_path) as push:
        push.run()
        push.assert_there()
        secrets = secrets_of(push)
    assert len(secrets) > 2
    assert "PATCH" in caplog.text
    assert "> Authorization: Basic …" in caplog.text
    assert not [secret for secret in secrets if secret in caplog.text]


def test_a_header_that_forges_a_line() -> None:
    assert redact_headers({"X": "a\r\nINFO forged\x1b[31m"}) == {"X": r"a INFO forged\x1b[31m"}


# --- redaction --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://r.example/v2/", "https://r.example/v2/"),
        (f"https://ann:{SECRET}@r.example/v2/", "https://r.example/v2/"),
        (f"https://r.example/v2/?_state={SECRET}", "https://r.example/v2/?_state=…"),
        (f"/v2/?a=1&{SECRET}#{SECRET}", "/v2/?a=1&…"),
        (f"/v2/?digest=sha256:{'a' * 64}", f"/v2/?digest=sha256:{'a' * 64}"),
        (f"/v2/?x={SECRET}=={SECRET}", "/v2/?x=…"),
        ("/v2/?scope=repository:team/app:pull,push", "/v2/?scope=repository:team/app:pull,push"),
        (f"/v2/x@{SECRET}?n=100", f"/v2/x@{SECRET}?n=100"),
        ("http://r.example/\x1b[31m", r"http://r.example/\x1b[31m"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.text(max_size=60))
def test_any_url_makes_a_printable_line(url: str) -> None:
    assert redact(url).isprintable()
    assert for_display(url, url).isprintable()
