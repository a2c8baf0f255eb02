"""Warning headers (distribution-spec, "Warnings")."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.client import RegistryClient
from pusher.registry.http.warnings import Warnings, read_warnings
from tests.registry.pretended import Pretended


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ('299 - "quota nearly used up"', ["quota nearly used up"]),
        ('299 - "one", 299 - "two, still two"', ["one", "two, still two"]),
        ('299  -  "say \\"hi\\" \\\\o/"', ['say "hi" \\o/']),
        ('299 - "up\x1b[2J\x07date\u00e2\u0080\u00ae\n  now"', [r"up\x1b[2J\x07date\u202e now"]),
        ('299 - "gr\u00c3\u00bcn"', ["grün"]),
        ('299 - "half \u00c3"', ["half \ufffd"]),
        ('199 - "not for people"', []),
        ('299 proxy.example "an HTTP cache\'s"', []),
        ('299 - ""', []),
        ("299 - unquoted", []),
        ("", []),
        ('299 - "never closed', []),
        ('299 - "' + "x" * 5000 + '"', []),
        ('299 - "seen", 299 - "' + "x" * 5000 + '"', ["seen"]),
    ],
)
def test_read(header: str, texts: list[str]) -> None:
    assert read_warnings({"Warning": header}) == texts


def test_each_is_told_once_and_not_without_end() -> None:
    told: list[str] = []
    warnings = Warnings("r.example", told.append)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: warnings.report_new({"Warning": '299 - "a"'}), range(50)))
    assert told == ["r.example says: a"]
    for number in range(100):
        warnings.report_new({"Warning": f'299 - "{number}"'})
    assert len(told) == 20


def test_only_the_registry_itself_is_heard() -> None:
    blob = "https://r.example/v2/a/blobs/sha256:0"
    storage = "https://storage.example/b"
    pretended = Pretended(
        {
            f"HEAD {blob}": (307, {"Location": storage, "Warning": '299 - "moving"'}),
            f"HEAD {storage}": (200, {"Warning": '299 - "buy more"'}),
            "GET https://r.example/v2/": (200, {}),
        }
    )
    told: list[str] = []
    client = RegistryClient("r.example", pretended, Authenticator("r.example", None), on_warning=told.append)
    client.blob_exists("a", "sha256:0")
    assert told == ["r.example says: moving"]
