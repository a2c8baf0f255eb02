"""Digests of both algorithms."""

from __future__ import annotations

import hashlib

import pytest

from pusher.oci.digest import (
    UnsupportedDigest,
    algorithm_of,
    check_digest,
    contradicts,
    digest_of_hash,
    hash_for,
    hex_of,
    is_digest,
    is_sha256,
    of_bytes,
    of_hex,
    short,
)

DATA = b"some bytes"
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()
SHA512 = "sha512:" + hashlib.sha512(DATA).hexdigest()


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_both_algorithms(digest: str) -> None:
    assert is_digest(digest)
    assert check_digest(digest, "x") == digest
    assert of_bytes(DATA, digest) == digest
    assert of_hex(hex_of(digest)) == digest
    assert digest == f"{algorithm_of(digest)}:{hex_of(digest)}"
    assert hex_of(digest).startswith(short(digest))
    found = hash_for(digest)
    found.update(DATA)
    assert digest_of_hash(found) == digest


def test_diff_ids_and_image_ids_are_sha256() -> None:
    assert (is_sha256(SHA256), is_sha256(SHA512)) == (True, False)
    assert of_bytes(DATA) == SHA256


@pytest.mark.parametrize(
    "text", ["sha512:" + "a" * 64, "sha256:" + "a" * 128, "sha256:" + "A" * 64, "../x", ""]
)
def test_what_is_none(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(ValueError, match="digest"):
        check_digest(text, "it")
    with pytest.raises(ValueError, match="not a digest"):
        hex_of(text)


def test_other_algorithms_are_told_from_nonsense() -> None:
    with pytest.raises(UnsupportedDigest, match="blake3"):
        check_digest("blake3:" + "0" * 64, "it")


@pytest.mark.parametrize(
    ("told", "is_other"),
    [(SHA512, False), (SHA256, False), ("sha512:" + "0" * 128, True), ("nonsense", True), ("", True)],
)
def test_what_a_registry_says_of_a_sha512_blob(told: str, is_other: bool) -> None:
    """Debian's docker-registry names its sha256 digest, whatever it was asked for."""
    assert contradicts(told, SHA512) == is_other
