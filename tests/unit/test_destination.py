"""Where an image goes: its own name, ``--to``, and the default registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.errors import ReferenceMalformed
from pusher.reference import Reference, RegistryPath, destination, names_registry

OURS = "r.example/team"


@pytest.mark.parametrize(
    ("name", "to", "default", "expected"),
    [
        # without --to: where the name says
        ("ghcr.io/team/app:1.2", None, None, "ghcr.io/team/app:1.2"),
        ("app:1.2", None, None, "docker.io/library/app:1.2"),
        # a default registry is for names without one of their own
        ("app:1.2", None, OURS, "r.example/team/app:1.2"),
        ("app", None, OURS, "r.example/team/app:latest"),
        ("team/app:1.2", None, OURS, "r.example/team/team/app:1.2"),
        ("library/app:1.2", None, OURS, "r.example/team/library/app:1.2"),
        ("ghcr.io/team/app:1.2", None, OURS, "ghcr.io/team/app:1.2"),
        ("docker.io/app:1.2", None, OURS, "docker.io/library/app:1.2"),
        ("localhost:5000/app:1.2", None, OURS, "localhost:5000/app:1.2"),
        # Podman calls what it built localhost/app
        ("localhost/app:1.2", None, OURS, "r.example/team/app:1.2"),
        ("localhost/app:1.2", None, None, "localhost/app:1.2"),
        # --to with a repository is the whole destination
        ("app:1.2", "ghcr.io/team/other", None, "ghcr.io/team/other:latest"),
        ("app:1.2", "ghcr.io/team/other:2", OURS, "ghcr.io/team/other:2"),
        ("app:1.2", "other:2", None, "docker.io/library/other:2"),
        ("app:1.2", "other:2", OURS, "r.example/team/other:2"),
        (None, "ghcr.io/team/other:2", OURS, "ghcr.io/team/other:2"),
        # --to with a registry alone, or a namespace: the name is kept
        ("app:1.2", "r.example.dev", None, "r.example.dev/app:1.2"),
        ("app:1.2", "R.Example.dev/", None, "r.example.dev/app:1.2"),
        ("app:1.2", "r.example:5000", None, "r.example:5000/app:1.2"),
        ("app:1.2", "localhost:5000", None, "localhost:5000/app:1.2"),
        ("app:1.2", "localhost", None, "localhost/app:1.2"),
        ("app:1.2", "registry:5000/", None, "registry:5000/app:1.2"),
        ("app:1.2", "[::1]:5000", None, "[::1]:5000/app:1.2"),
        ("app:1.2", "r.example/team/", OURS, "r.example/team/app:1.2"),
        ("ghcr.io/team/app:1.2", "r.example", None, "r.example/team/app:1.2"),
        ("localhost/app:1.2", "r.example", None, "r.example/app:1.2"),
        ("library/app:1.2", "r.example", None, "r.example/library/app:1.2"),
        ("app:1.2", "docker.io/team/", None, "docker.io/team/app:1.2"),
    ],
)
def test_the_destination(name: str | None, to: str | None, default: str | None, expected: str) -> None:
    assert str(destination(name, to=to, default=default)) == expected


@pytest.mark.parametrize("to", [None, "r.example", "r.example/team/"])
def test_without_a_name_there_is_none(to: str | None) -> None:
    assert destination(None, to=to, default=OURS) is None


@pytest.mark.parametrize("to", ["app:1.2", "my.app:1.2", "team/app", "app:5000", f"app@sha256:{'a' * 64}"])
def test_what_is_a_reference_and_no_registry(to: str) -> None:
    assert destination("other:7", to=to) == Reference.parse(to)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "team/",
            "'team/' is not a registry: its first part 'team' is not a host: it has neither a dot nor a port",
            "write it like registry.example.com, localhost:5000 or registry.example.com/team",
        ),
        (
            "r.example/Team/",
            "'r.example/Team/' is not a registry: its repository has upper-case letters in 'Team'",
            "write it in lower case: r.example/team/",
        ),
        (
            "r.example:99999",
            (
                "'r.example:99999' is not a registry: the port '99999' of its registry "
                "is not a number from 1 to 65535"
            ),
            "write it like r.example:5000/app:1.2",
        ),
        (
            "http://r.example/",
            "'http://r.example/' is not a registry: it begins with http://",
            "write it without: r.example, and add --plain-http where the registry speaks http",
        ),
    ],
)
def test_nonsense_is_told_before_the_image_is_looked_for(text: str, message: str, hint: str) -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        destination(None, to=text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_bad_name_is_told_as_it_would_be_pushed() -> None:
    with pytest.raises(ReferenceMalformed) as caught:
        destination("App:1", to="r.example")
    assert caught.value.hint == "write it in lower case: r.example/app:1"


def test_places_read_as_they_are_written() -> None:
    assert RegistryPath.parse("R.example:5000/a/b/") == RegistryPath("r.example:5000", "a/b")
    assert RegistryPath.parse("index.docker.io") == RegistryPath("docker.io")
    assert str(RegistryPath.parse("r.example/")) == "r.example"


_NAMES = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}(:[a-z0-9]{1,5})?", fullmatch=True)
_HOSTS = st.sampled_from(["r.example", "localhost:5000", "[::1]:5000", "127.0.0.1"])


@given(name=_NAMES, host=_HOSTS, default=_HOSTS)
def test_the_registry_that_is_asked_for_is_the_one_that_gets_it(name: str, host: str, default: str) -> None:
    assert not names_registry(name)
    assert names_registry(f"{host}/{name}")
    expected = Reference.parse(f"{host}/{name}")
    assert destination(name, to=host, default=default) == expected
    assert destination(name, default=host) == expected
    assert destination(f"{host}/{name}", default=default) == expected
    assert destination(f"ghcr.io/{name}", to=f"{host}/") == expected
