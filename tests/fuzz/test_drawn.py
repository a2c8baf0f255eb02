"""The same readers with what Hypothesis draws: structures that changing valid bytes seldom comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import Reader, readers
from tests.fuzz.run import attempt

_TEXTS = (
    *("reference", "place", "destination", "size", "timetable", "challenge", "warnings", "location", "log"),
    *("platform", "toml"),
)
_DOCUMENTS = ("answer", "authfile", "document", "index", "manifest", "config")
_WORDS = st.sampled_from(
    [
        *(
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "manifests",
            "digest",
            "size",
            "annotations",
            "urls",
        ),
        *(
            "subject",
            "platform",
            "os",
            "architecture",
            "rootfs",
            "diff_ids",
            "history",
            "auths",
            "auth",
            "errors",
        ),
        *("code", "message", "detail", "credsStore", "credHelpers", "HttpHeaders", "sha256:" + "a" * 64),
    ]
)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**65)
    | st.floats()
    | st.text(max_size=40)
    | _WORDS
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_WORDS | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=30,
)
_SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in readers(tmp_path_factory.mktemp("valid"))}


@pytest.mark.parametrize("name", _TEXTS)
@_SETTINGS
@given(text=st.text(max_size=300))
def test_texts(known: dict[str, Reader], name: str, text: str) -> None:
    attempt(known[name], text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", _DOCUMENTS)
@_SETTINGS
@given(data=_JSON)
def test_documents(known: dict[str, Reader], name: str, data: Any) -> None:
    attempt(known[name], json.dumps(data).encode("utf-8", "surrogatepass"))


def test_inputs_that_failed_are_kept() -> None:
    folder = Path(__file__).parent / "seeds"
    assert {path.name for path in folder.iterdir()} <= {
        *_TEXTS,
        *_DOCUMENTS,
        "dir",
        "tar",
        "archive",
        "layer",
    }
    assert len(list(folder.glob("*/*"))) >= 9
