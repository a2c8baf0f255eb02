"""Image references: what is understood, and the exact words for what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.errors import ExitCode, ReferenceMalformed
from pusher.reference import Reference, api_host, canonical_registry, destination, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("app", "docker.io", "library/app", "latest", None),
        ("app:1.2", "docker.io", "library/app", "1.2", None),
        ("team/app", "docker.io", "team/app", "latest", None),
        ("docker.io/app", "docker.io", "library/app", "latest", None),
        ("index.docker.io/app", "docker.io", "library/app", "latest", None),
        ("registry-1.docker.io/team/app", "docker.io", "team/app", "latest", None),
        ("registry.example.com/app:1", "registry.example.com", "app", "1", None),
        ("Registry.Example.COM/app:1", "registry.example.com", "app", "1", None),
        ("registry:5000/app", "registry:5000", "app", "latest", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/a/b/c:x_Y.z-1", "localhost:5000", "a/b/c", "x_Y.z-1", None),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1", None),
        ("[2001:DB8::1]/app", "[2001:db8::1]", "app", "latest", None),
        ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        (f"app@{DIGEST}", "docker.io", "library/app", None, DIGEST),
        (f"r.example/app:1@{DIGEST}", "r.example", "app", "1", DIGEST),
        ("a__b/c---d/e.f_g", "docker.io", "a__b/c---d/e.f_g", "latest", None),
        ("app:" + "t" * 128, "docker.io", "library/app", "t" * 128, None),
        ("r.example/" + "a" * 255, "r.example", "a" * 255, "latest", None),
    ],
)
def test_understood(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    reference = Reference.parse(text)
    assert reference == Reference(registry, repository, tag, digest)
    assert Reference.parse(str(reference)) == reference


_EXAMPLE = "write it like registry.example.com/team/app:1.2"
_ONE_DIGEST = "a digest is sha256: and 64 of 0-9 and a-f; write app@sha256:..."
_COMPONENT = "a repository has lower-case letters, digits, and between them '.', '_', '__' or hyphens"
_NO_PORT = "is not a number from 1 to 65535"


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        (
            "r.example/Team/app:1",
            "its repository has upper-case letters in 'Team'",
            "write it in lower case: r.example/team/app:1",
        ),
        ("Team/app", "its repository has upper-case letters in 'Team'", "write it in lower case: team/app"),
        ("https://r.example/x:1", "it begins with https://", "write it without: r.example/x:1"),
        (
            "http://r.example:80/x/",
            "it begins with http://",
            "write it without: r.example:80/x, and add --plain-http where the registry speaks http",
        ),
        ("docker://app", "it begins with docker://", "write it without: app"),
        ("app:", "the tag is empty", "write app:latest, or app alone"),
        ("app:-x", "its tag '-x' begins with '-'", "write app:x"),
        ("app:.", "its tag '.' begins with '.'", "write app:latest"),
        ("app:a+b", "its tag 'a+b' has '+'", "a tag has letters, digits, '_', '.' and '-'"),
        ("app:1:2", "there is more than one colon after 'app'", "one tag is allowed: app:2"),
        (" app", "there is a space before or after it", "write app"),
        ("app\n", "there is a space before or after it", "write app"),
        ("a b", "there is a space at position 2", f"a reference has none; {_EXAMPLE}"),
        ("a\tb", "there is a tab at position 2", f"a reference has none; {_EXAMPLE}"),
        ("a\x00b", "there is '\\x00' at position 2", f"a reference has none; {_EXAMPLE}"),
        ("/app", "it begins with a slash", "write app"),
        ("app/", "there is no repository after 'app/'", "write app"),
        ("r.example/", "there is no repository after 'r.example/'", "write it like r.example/app:1.2"),
        ("r.example/team/", "there is no repository after 'r.example/team/'", "write r.example/team"),
        ("r.example/:1", "there is no repository after 'r.example/'", "write it like r.example/app:1.2"),
        ("r.example//app", "there are two slashes in a row", "write r.example/app"),
        (":1", "there is no name before ':'", _EXAMPLE),
        (f"@{DIGEST}", "there is no name before '@'", _EXAMPLE),
        (
            "localhost:x/app",
            f"the port 'x' of its registry {_NO_PORT}",
            "write it like localhost:5000/app:1.2",
        ),
        (
            "localhost:0/app",
            f"the port '0' of its registry {_NO_PORT}",
            "write it like localhost:5000/app:1.2",
        ),
        (
            "localhost:65536/app",
            f"the port '65536' of its registry {_NO_PORT}",
            "write it like localhost:5000/app:1.2",
        ),
        (
            "localhost:0000001000000/app",
            f"the port '0000001000000' of its registry {_NO_PORT}",
            "write it like localhost:5000/app:1.2",
        ),
        ("localhost:/app", "the port after 'localhost:' is missing", "write it like localhost:5000/app:1.2"),
        (
            "::1/app",
            "its registry '::1' has several colons",
            "write host:port, and an IPv6 address in brackets: [::1]:5000/app:1.2",
        ),
        (
            "[::1/app",
            "its registry '[::1' is not an IPv6 address in brackets",
            "write it like [::1]:5000/app:1.2",
        ),
        ("[::1]x/app", "there is 'x' after the address [::1]", "a port follows with a colon, [::1]:5000"),
        (
            "my_registry.example/app",
            "its registry 'my_registry.example' is not a host name",
            "a host name has letters, digits and dots, and hyphens between letters or digits",
        ),
        ("ä/app", "its repository has 'ä' in 'ä'", _COMPONENT),
        ("team/a$p", "its repository has '$' in 'a$p'", _COMPONENT),
        (
            "-app",
            "'-app' in its repository begins or ends with a separator",
            "a letter or digit is at both ends: app",
        ),
        (
            "team/..",
            "'..' in its repository begins or ends with a separator",
            "a letter or digit is at both ends: app",
        ),
        (
            "a___b",
            "'a___b' in its repository has separators in a row",
            "between letters or digits is one '.', one '_', two '_' or any number of hyphens",
        ),
        ("app@", "the digest after '@' is empty", _ONE_DIGEST),
        ("app@md5:abc", "its digest 'md5:abc' is not a sha256 digest", _ONE_DIGEST),
        ("app@sha256:abc", "its digest has 3 digits", _ONE_DIGEST),
        ("app@sha256:" + "G" * 64, "its digest has characters other than 0-9 and a-f", _ONE_DIGEST),
    ],
)
def test_the_wrong_part_is_named(text: str, why: str, hint: str) -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        Reference.parse(text)
    assert caught.value.message == f"{text!r} is not an image reference: {why}"
    assert caught.value.hint == hint
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        (
            "r.example/" + "a" * 256,
            "its repository has 256 characters",
            "a repository has at most 255, the registry's host not counted",
        ),
        ("app:" + "t" * 129, "its tag has 129 characters", "a tag has at most 128"),
    ],
)
def test_a_long_reference_is_cut_in_the_message(text: str, why: str, hint: str) -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        Reference.parse(text)
    assert caught.value.message == f"{text[:97] + '...'!r} is not an image reference: {why}"
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_nothing(text: str) -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        Reference.parse(text)
    assert (caught.value.message, caught.value.hint) == ("the image reference is empty", _EXAMPLE)


def test_an_image_id_needs_a_destination() -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        Reference.parse("0" * 64)
    assert caught.value.hint == "name the destination: --to registry.example.com/team/app:1.2"


@given(st.text(alphabet="aA0.:/@_-[]% \n\x00é", max_size=40))
def test_anything_is_either_stable_or_refused_in_words(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ReferenceMalformed as error:
        refused = error
    else:
        assert Reference.parse(str(reference)) == reference
        return
    assert refused.message
    assert refused.hint


def test_names() -> None:
    reference = Reference.parse("app:1")
    assert reference.name == "docker.io/library/app"
    assert reference.api_host == "registry-1.docker.io"
    assert api_host("localhost:5000") == "localhost:5000"
    assert canonical_registry("Index.Docker.IO") == "docker.io"


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("LOCALHOST:5000", True),
        ("registry.localhost:80", True),
        ("127.0.0.1", True),
        ("127.8.9.1:5000", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("127.0.0.1.example.com", False),
        ("128.0.0.1:5000", False),
        ("10.0.0.1", False),
        ("[::2]:5000", False),
        ("registry.example.com", False),
    ],
)
def test_loopback(registry: str, loopback: bool) -> None:
    assert is_loopback(registry) is loopback


def test_the_longest_destination_is_refused_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(ReferenceMalformed):
        destination("app", to="." * 100_000 + "!")
    assert time.monotonic() - begun < 30
