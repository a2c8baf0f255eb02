"""JSON of strangers: what it may say, and what it costs to find out that it says too much."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pusher.oci.bounded_json import load_json
from pusher.oci.document import parse_document
from pusher.oci.manifest import diff_ids_of, parse_descriptor

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b' {"a": [1, -2.5, true, null, "\\u00e9"]}\n', {"a": [1, -2.5, True, None, "é"]}),
        (b"18446744073709551616", 2**64),
        (b'{"a":1,"a":2}', {"a": 2}),
        ('{"a":"é 😀"}'.encode(), {"a": "é 😀"}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"[[[[{{{{,,,,\\""', '[[[[{{{{,,,,"'),
    ],
)
def test_json_is_read(raw: bytes, value: object) -> None:
    assert load_json(raw) == value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"caf\xe9": "caf\xe9"}', {"caf�": "caf�"}),
        (b'["\\ud800", {"\\udc00": "a\\udfffb"}]', ["�", {"�": "a�b"}]),
        (b'["\xed\xa0\x80"]', ["���"]),
    ],
)
def test_every_string_can_be_encoded(raw: bytes, value: object) -> None:
    assert load_json(raw) == value


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b'{"a":1}x', "it is not JSON"),
        (b"\xef\xbb\xbf{}", "it is not JSON"),
        ("{}".encode("utf-16"), "it is not JSON"),
        (b"[NaN]", "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"1e999", "a number that is too large"),
        (b"-" + b"9" * 5000, "an integer of 5001 digits"),
        (b"[" * 101 + b"]" * 101, "nested more than 100 deep"),
        (b'{"a":' * 990 + b"1" + b"}" * 990, "nested more than 100 deep"),
        (b"[" * 1_000_000, "nested more than 100 deep"),
        (b"[" + b"1," * 250_000 + b"1]", "more than 250000 values"),
        (b"[" + b'"",' * 250_000 + b'""]', "more than 250000 values"),
        (b"[" + b"{}," * 250_000 + b"{}]", "more than 250000 values"),
        (b"{" + b",".join(b'"%d":[]' % n for n in range(125_001)) + b"}", "more than 250000 values"),
        (b'"' + b"a" * (16 << 20), "more than 16777216"),
    ],
)
def test_what_is_too_much_or_no_json_is_told(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_json(raw)


def test_as_much_as_is_allowed_is_read() -> None:
    assert load_json(b"[" * 100 + b"]" * 100)
    assert len(load_json(b"[" + b"1," * 249_998 + b"1]")) == 249_999
    assert len(load_json(b'["' + b"[," * 500_000 + b'"]')[0]) == 1_000_000


@pytest.mark.parametrize(
    "raw",
    [
        b'"' + b'\\"' * 4_000_000,
        b'"' + b"\\" * 4_000_001,
        b'""' * 4_000_000,
        b'"a' * 4_000_000,
        b'{"":' * 2_000_000,
        b" " * 16_000_000,
    ],
    ids=lambda raw: repr(raw[:6]),
)
def test_a_refusal_takes_no_time(raw: bytes) -> None:
    before = time.process_time()
    with pytest.raises(ValueError):
        load_json(raw)
    assert time.process_time() - before < 2


def test_a_document_of_small_objects_takes_little_memory() -> None:
    """The largest document, in a process of its own: what was taken before is no part of it."""
    program = """
import resource
from pusher.oci.bounded_json import load_json
raw = b"[" + b'{"a":1},' * 2_090_000 + b"1]"
assert 16 << 20 > len(raw) > 15 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_json(raw)
except ValueError:
    pass
load_json(b"[" + b'{"a":{}},' * 83_000 + b"1]")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout)
    assert kilobytes < 80 << 10


@pytest.mark.parametrize("size", [-1, 2**63, 2**64, True, 1.0, "1", None])
def test_a_size_that_nobody_can_store_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="has no size"):
        parse_descriptor({"mediaType": "a/b", "digest": DIGEST, "size": size})


def test_manifests_and_configs_are_read_within_the_bounds() -> None:
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    with pytest.raises(ValueError, match="nested"):
        parse_document(deep)
    with pytest.raises(ValueError, match=r"no rootfs\.diff_ids"):
        diff_ids_of(deep)
