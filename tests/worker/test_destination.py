"""Where an image is pushed: what IMAGE, --to and the default registry say together."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ImageNotFound, InvalidOption, PusherError, ReferenceMalformed
from pusher.worker.destination import resolve

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("image", "to", "default", "registry"),
    [
        ("app:1.2", None, None, "docker.io"),
        ("app:1.2", None, "r.example/team", "r.example"),
        ("ghcr.io/team/app", None, "r.example/team", "ghcr.io"),
        ("podman:localhost/app", None, "r.example", "r.example"),
        ("missing.tar", "s.example:5000", None, "s.example:5000"),
        ("missing.tar", "s.example/team/", "r.example", "s.example"),
        ("missing.tar", "app:1", "r.example", "r.example"),
        ("docker://ghcr.io/app", "s.example", None, "s.example"),
        (f"docker://ghcr.io/app@{DIGEST}", "s.example", None, "s.example"),
    ],
)
def test_the_registry_is_known_before_the_image_is_found(
    image: str, to: str | None, default: str | None, registry: str
) -> None:
    assert resolve(image, to, default).registry() == registry


def test_only_a_file_is_looked_into_for_its_name(tmp_path: Path) -> None:
    destination = resolve(str(tmp_path / "missing.tar"), None, "r.example")
    assert destination.needs_name
    with pytest.raises(ImageNotFound):
        destination.registry()


def test_the_name_completes_it() -> None:
    assert str(resolve("a.tar", "r.example/team/", None).complete("ghcr.io/app:1")) == "r.example/team/app:1"
    assert str(resolve("a.tar", None, "r.example/team").complete("app:1")) == "r.example/team/app:1"
    assert str(resolve("a.tar", "s.example/b:2", "r.example").complete(None)) == "s.example/b:2"


@pytest.mark.parametrize(
    ("image", "to", "default", "hint"),
    [
        ("a.tar", None, None, "pusher run-it a.tar --to registry.example.com/team/app:1.2"),
        ("a.tar", None, "r.example/x", "pusher run-it a.tar --to r.example/x/app:1.2"),
        ("a.tar", "s.example", "r.example/x", "pusher run-it a.tar --to s.example/app:1.2"),
    ],
)
def test_without_a_name_the_hint_says_what_to_type(
    image: str, to: str | None, default: str | None, hint: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        resolve(image, to, default, command="run-it").complete(None)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("image", "to", "error"),
    [
        ("docker://ghcr.io/team/app:1", None, InvalidOption),
        ("docker://ghcr.io/Team/app:1", "r.example", ReferenceMalformed),
        ("app", f"r.example/app@{DIGEST}", ReferenceMalformed),
        ("app", "r.example/App/", ReferenceMalformed),
    ],
)
def test_what_cannot_be_pushed_to_is_refused_before_the_image_is_found(
    image: str, to: str | None, error: type[PusherError]
) -> None:
    with pytest.raises(error):
        resolve(image, to, None)
