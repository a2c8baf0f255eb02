"""The page of a local registry, as a browser without scripts gets it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.serve.access import Access
from pusher.serve.api import Api
from pusher.serve.app import make_app
from pusher.serve.local import LocalRegistry
from pusher.serve.metrics import Metrics
from pusher.serve.page.repositories import PER_PAGE
from pusher.serve.page.site import RegistrySite
from tests.serve.page.served import HTML
from tests.serve.served import Repository, Served, index, listening


class ServedRegistry(Served):
    """A registry with its page."""

    def start(self) -> None:
        self.registry = LocalRegistry(self.folder)
        site = RegistrySite(self.registry.catalog)
        self._context = listening(make_app(Api(self.registry), Access(True), Metrics(), site=site))
        self.port = self._context.__enter__()
        self.url = f"http://127.0.0.1:{self.port}"

    def show(self, path: str = "/") -> str:
        answer = self.ask("GET", path, headers=HTML)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedRegistry]:
    with ServedRegistry(tmp_path / "registry") as served:
        yield served


def test_an_empty_registry_says_what_to_type(served: ServedRegistry) -> None:
    assert f"docker push 127.0.0.1:{served.port}/app:1.2" in served.show()


def test_repositories_are_listed_and_searched(served: ServedRegistry) -> None:
    for name in ("team/app", "team/web", "other"):
        repository = Repository(served, name)
        raw = repository.image(b"layer")
        assert repository.push(raw, "1").status_code == 201
    assert repository.push(raw, "2").status_code == 201

    def listed(query: str = "") -> list[str]:
        return re.findall(r'<a href="/repositories/([^"]+)"', served.show(f"/{query}"))

    assert listed() == ["other", "team/app", "team/web"]
    assert listed("?q=TEAM") == ["team/app", "team/web"]
    assert listed("?q=team&last=team/app") == ["team/web"]
    assert listed("?q=%25") == []
    assert "2 tags" in served.show()
    assert "1 tag<" in served.show()


def test_a_repository_shows_tags_sizes_and_how_to_pull(served: ServedRegistry) -> None:
    repository = Repository(served, "team/app")
    raw = repository.image(b"x" * 3000)
    repository.push(raw, "1.2")
    parts = json.loads(index(raw))
    parts["manifests"] *= 4
    platforms: list[object] = [
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "unknown", "architecture": "unknown"},
        "<script>",
        {"os": "<b>", "architecture": 7},
    ]
    parts["manifests"] = [
        {**child, "platform": platform} for child, platform in zip(parts["manifests"], platforms, strict=True)
    ]
    assert repository.push(json.dumps(parts).encode(), "all").status_code == 201
    shown = served.show("/repositories/team/app")
    assert f"docker pull 127.0.0.1:{served.port}/team/app:1.2" in shown
    assert "image · 2.9 KiB" in shown
    assert "&lt;b&gt;/7, linux/arm64/v8" in shown
    assert "<b>" not in shown


def test_a_large_manifest_is_listed_without_being_read(served: ServedRegistry) -> None:
    repository = Repository(served, "app")
    raw = repository.image(b"x", annotations={"long": "x" * 100_000})
    assert repository.push(raw, "1").status_code == 201
    assert "docker pull" in served.show("/repositories/app")


def test_many_tags_are_pages(served: ServedRegistry) -> None:
    repository = Repository(served, "app")
    raw = repository.image(b"x")
    for number in range(PER_PAGE + 1):
        repository.push(raw, f"{number:04}")
    first = served.show("/repositories/app")
    assert first.count("<h2>") == PER_PAGE
    (after,) = re.findall(r'rel="next" href="([^"]+)"', first)
    assert served.show(after).count("<h2>") == 1


@pytest.mark.parametrize("name", ["nothing", "UPPER", "a//b", "%3Cscript%3E"])
def test_an_unknown_repository_is_a_page(served: ServedRegistry, name: str) -> None:
    answer = served.ask("GET", f"/repositories/{name}", headers=HTML)
    assert answer.status_code in (400, 404)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<script>" not in answer.text


def test_clients_of_the_api_read_json(served: ServedRegistry) -> None:
    for path in ("/v2/nothing/tags/list", "/v2/nothing"):
        assert served.ask("GET", path, headers=HTML).json()["errors"]
    assert served.ask("GET", "/jobs/1").status_code == 404
