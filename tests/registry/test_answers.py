"""Error answers of registries and of what stands in front of them."""

from __future__ import annotations

import email.utils
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.errors import (
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryRefused,
    RepositoryUnknown,
    Retry,
)
from pusher.registry.answers import read_message, refusal, retry_after
from pusher.registry.http.answer import Answer

URL = "https://r.example:5000/v2/team/app/blobs/uploads/1?_state=s3cr3t-state&digest=sha256:ab"
DIGEST = "sha256:" + "a" * 64


def answer(status: int = 400, body: bytes = b"", **headers: str) -> Answer:
    return Answer(
        "PATCH", URL, status, {name.replace("_", "-"): text for name, text in headers.items()}, body
    )


def errors(*entries: object) -> bytes:
    return json.dumps({"errors": entries}).encode()


# --- what the body says -----------------------------------------------------------------------------------


def test_specification_s_json() -> None:
    body = errors(
        {"code": "BLOB_UNKNOWN", "message": "blob unknown", "detail": {"digest": DIGEST}},
        {"code": "BLOB_UNKNOWN", "message": "blob unknown", "detail": [DIGEST, "sha256:" + "b" * 64]},
        {"code": "DENIED"},
        "nonsense",
    )
    message = read_message(answer(body=body))
    assert message.codes == {"BLOB_UNKNOWN", "DENIED"}
    assert message.text == "blob unknown; DENIED"
    assert message.digests == (DIGEST, "sha256:" + "b" * 64)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (
            b"<html><head><style>p {}</style></head><body><h1>413  Too\nLarge</h1></body></html>",
            "413 Too Large",
        ),
        (
            b"<html>\n<head><TITLE>r.example | 524: A timeout\noccurred</TITLE></head><body><p>Ray 1</body>",
            "r.example | 524: A timeout occurred",
        ),
        (b"<title> </title><p>Tom &amp; Ann &lt;3</p>", "Tom & Ann <3"),
        (b"<script>alert(1)</script>no", "no"),
        (b"error code: 500\r\n", "error code: 500"),
        (b'{"message": "other"}', '{"message": "other"}'),
        (b'{"errors": null}', '{"errors": null}'),
        (b'{"errors": [{"message": null, "code": null}]}', ""),
        (b'{"errors": [{"message": {"a": 1}}]}', "{'a': 1}"),
        (b'{"errors": [{"message": "\\ud800\\u001b[31mred"}]}', "\ufffd\\x1b[31mred"),
        (b"\x00\x1b[2J\xff\xfe", "\\x00\\x1b[2J\ufffd\ufffd"),
        (b"[" * 100_000, None),
        (b"x" * 5_000_000, None),
    ],
)
def test_other_bodies(body: bytes, text: str | None) -> None:
    message = read_message(answer(body=body))
    if text is None:
        assert len(message.text) == 300
        assert message.text.endswith("…")
    else:
        assert message.text.split() == text.split()


@given(st.binary(max_size=300))
def test_any_bytes_make_a_printable_line(body: bytes) -> None:
    text = read_message(answer(body=body)).text
    assert text.isprintable()
    text.encode()


@given(
    st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))
)
def test_any_json_in_errors(value: object) -> None:
    for body in (
        {"errors": value},
        {"errors": [value]},
        {"errors": [{"code": value, "message": value}]},
        value,
    ):
        assert isinstance(refusal(answer(body=json.dumps(body).encode()), doing="x"), PusherError)


def test_detail_is_never_shown() -> None:
    """serverless-registry dumps its whole state there, upload id included."""
    body = errors({"code": "RANGE_ERROR", "message": "no", "detail": {"state": "upload-id"}})
    assert "upload-id" not in refusal(answer(416, body), doing="sending a chunk").message


@pytest.mark.parametrize(
    "body",
    [
        b"<p>The requested URL /v2/team/app/blobs/uploads/1?_state=s3cr3t-state&amp;x=1 was not found</p>",
        b"no route for https://ann:s3cr3t@r.example/v2/?sig=s3cr3t-state",
        errors({"code": "X", "message": "bad URL /v2/x?_state=s3cr3t-state"}),
        b"the state s3cr3t-state is not valid",
        b"(authorization: Basic YW5uOnMzs3cr3t=)",
    ],
)
def test_a_location_s_secrets_that_are_echoed_are_not_shown(body: bytes) -> None:
    error = refusal(answer(404, body), doing="sending a chunk")
    assert "s3cr3t" not in error.message + error.hint


# --- which error it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b"", RegistryRefused),
        (403, b"", PermissionDenied),
        (401, errors({"code": "DENIED", "message": "no"}), PermissionDenied),
        (404, errors({"code": "NAME_UNKNOWN"}), RepositoryUnknown),
        (404, errors({"code": "name_unknown"}), RepositoryUnknown),
        (404, b"", RegistryRefused),
        (408, b"", RegistryBusy),
        (429, b"", RegistryBusy),
        (503, b"", RegistryBusy),
        (500, b"", RegistryFault),
        (502, b"<html>", RegistryFault),
        (599, b"", RegistryFault),
        (302, b"", RegistryRefused),
    ],
)
def test_refusal(status: int, body: bytes, kind: type[PusherError]) -> None:
    error = refusal(answer(status, body), doing="sending a chunk")
    assert type(error) is kind
    assert error.message.startswith(f"r.example:5000 answered {status} while sending a chunk")
    assert error.hint
    assert not error.message.endswith(".")
    again = kind in (RegistryBusy, RegistryFault)
    assert error.retry is (Retry.BACKOFF if again else Retry.NEVER)


def test_the_request_is_shown() -> None:
    error = refusal(answer(403, errors({"code": "DENIED", "message": "quota"})), doing="sending a chunk")
    assert error.message == (
        "r.example:5000 answered 403 while sending a chunk: quota (PATCH /v2/team/app/blobs/uploads/1)"
    )


def test_a_long_request_is_shortened() -> None:
    url = "https://r.example/v2/" + "a" * 99 + "/blobs/uploads/" + "b" * 99
    message = refusal(Answer("PUT", url, 400), doing="closing an upload").message
    shown = message.partition("(PUT ")[2]
    assert 100 < len(shown) < 110
    assert shown.startswith("/v2/aaa")
    assert shown.endswith("bbb)")
    assert "…" in shown


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, b"error code: 1015", RegistryBusy, "limits the rate of requests (error code 1015)"),
        (403, b"error code: 1020\n", PermissionDenied, "blocks this request (error code 1020)"),
        (
            403,
            b"<html><title>Access denied | r.example used Cloudflare to restrict access</title>",
            PermissionDenied,
            "Access denied | r.example used Cloudflare to restrict access",
        ),
        (
            524,
            b"<html><head><title>r.example | 524: A timeout occurred</title>",
            RegistryFault,
            "100 seconds",
        ),
        (524, b"error code: 524", RegistryFault, "waited 100 seconds for its answer (524)"),
        (521, b"", RegistryFault, "cannot connect to it: connection refused (521)"),
        (500, b"error code: 1101", RegistryFault, "runs it as a Worker that failed (error code 1101)"),
        (500, b"error code: 1999", RegistryFault, "error code: 1999"),
        (524, errors({"code": "UNKNOWN", "message": "ours"}), RegistryFault, ": ours ("),
    ],
)
def test_cloudflare_s_numbers(status: int, body: bytes, kind: type[PusherError], words: str) -> None:
    error = refusal(answer(status, body), doing="closing an upload")
    assert type(error) is kind
    assert words in error.message
    if "error code: 10" in body.decode() and status == 403:
        assert "Cloudflare's firewall" in error.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Mon, 01 Jan 1999 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 1999 00:00:00 -0000", 0.0),
        ("Mon, 99 Jan 1999 00:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(answer(503, Retry_After=text)) == seconds
    assert refusal(answer(503, Retry_After=text), doing="x").retry_after == seconds


def test_retry_after_a_date_to_come() -> None:
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    seconds = retry_after(answer(429, Retry_After=date))
    assert seconds is not None
    assert 30 < seconds <= 90


@given(st.text(max_size=40))
def test_any_retry_after(text: str) -> None:
    seconds = retry_after(answer(503, Retry_After=text))
    assert seconds is None or seconds >= 0
