"""Whole jobs while something in front answers: exit 0 means that the registry gives everything back."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pusher.errors import ExitCode
from tests.registry.pretended import LOGIN
from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry, Fault, Front, On, ResetAfter
from tests.support.fakeregistry.wire import Reply
from tests.support.home import CHUNK, Home
from tests.support.images import make_image, sha256, write_archive
from tests.support.quick import QUICK
from tests.support.tokens import TokenServer, demand

PAGE: Final = b"<html><head><title>Sign in to this network</title></head></html>"
HTML: Final = {"Content-Type": "text/html"}
JSON: Final = {"Content-Type": "application/json"}
SHAPES: Final[dict[str, tuple[int, dict[str, str], bytes]]] = {
    "a portal's page": (200, HTML, PAGE),
    "a portal's redirect": (302, {**HTML, "Location": "/login"}, PAGE),
    "a portal that says so": (511, HTML, PAGE),
    "an empty 200": (200, {}, b""),
    "an empty 201": (201, {}, b""),
    "a gateway's JSON": (201, JSON, b'{"status": "ok"}'),
    "a balancer without targets": (404, {"Content-Type": "text/plain"}, b"404 page not found\n"),
    "a firewall": (403, HTML, PAGE),
    "a proxy": (407, {**HTML, "Proxy-Authenticate": "Basic realm=x"}, PAGE),
    "a login of its own": (401, {**HTML, "WWW-Authenticate": 'Basic realm="x"'}, PAGE),
    "a client that hung up": (499, {}, b""),
    "a balancer that fails": (502, HTML, PAGE),
    "a full disk": (507, HTML, PAGE),
}
MOMENTS: Final = (
    *(On.HEAD_BLOB, On.OPEN, On.CHUNK, On.STATUS, On.CLOSE),
    *(On.PUT_MANIFEST, On.HEAD_MANIFEST),
)
SEVERAL: Final = 3


def gives_back(registry: FakeRegistry, repository: str, tag: str) -> bool:
    """Whether the registry holds the manifest and all that it names."""
    if tag not in registry.manifests[repository]:
        return False
    manifest = json.loads(registry.manifests[repository][tag][1])
    held = registry.blobs[repository]
    return all(
        entry["digest"] in held and sha256(registry.blob(repository, entry["digest"])) == entry["digest"]
        for entry in (manifest["config"], *manifest["layers"])
    )


def table() -> list[tuple[On, str, str, int | None]]:
    """Every second front at each moment for a while, and successes that are none for good."""
    kinds = itertools.cycle(("serverless", "distribution-3", "distribution-3", "serverless"))
    product = list(itertools.product(MOMENTS, SHAPES))
    for_good = [(on, shape) for on, shape in product if SHAPES[shape][0] in (200, 201)]
    return [
        *((on, shape, next(kinds), SEVERAL) for on, shape in product[::2]),
        *((on, shape, next(kinds), None) for on, shape in for_good[::2]),
    ]


RULES: Final = {"serverless": SERVERLESS.scaled(min=1_000, max=CHUNK), "distribution-3": DISTRIBUTION_3}


@pytest.mark.parametrize(("on", "shape", "kind", "times"), table())
def test_exit_0_means_that_all_is_there(
    on: On, shape: str, kind: str, times: int | None, home: Home, tmp_path: Path
) -> None:
    image = make_image(3 * CHUNK, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    with FakeRegistry(RULES[kind]) as registry:
        front = Fault(on, Front(*SHAPES[shape]), times=times, nth=2 if on is On.CHUNK else 1)
        registry.faults.add(front)
        if on is On.STATUS:
            registry.faults.add(Fault(On.CHUNK, ResetAfter(CHUNK // 2), nth=2))
        home.enqueue(archive, f"{registry.address}/app:1")
        # three answers of a front are no outage, however slow the machine
        patient = replace(QUICK, outage_new_repository=60.0, missing=60.0)
        result = home.run(give_up_after=0.3) if times is None else home.run(retry=patient)
        there = gives_back(registry, "app", "1")
        assert there or result.exit_code != ExitCode.DONE
        asks = shape == "a login of its own" and on in (On.OPEN, On.HEAD_BLOB)  # as a registry may, at first
        if times is not None and not asks:
            assert result.exit_code == ExitCode.DONE


@pytest.mark.parametrize("shape", SHAPES)
def test_a_token_server_behind_a_front_is_an_outage(shape: str, home: Home, tmp_path: Path) -> None:
    """In the middle: it has given tokens before."""
    image = make_image(3 * CHUNK, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    with TokenServer(login=LOGIN) as tokens, FakeRegistry(DISTRIBUTION_3) as registry:
        wall = demand(tokens)
        registry.faults.add(wall)

        def run_out(*_: object) -> None:
            del home.progress.hooks["blob_acknowledged"]
            tokens.answers = [Reply(*SHAPES[shape]) for _ in range(SEVERAL)]
            tokens.revoke()

        home.progress.hooks["blob_acknowledged"] = run_out
        home.enqueue(archive, f"{registry.address}/app:1")
        result = home.run(username=LOGIN[0], password=LOGIN[1])
        assert result.exit_code == ExitCode.DONE
        assert tokens.answers == []
        assert gives_back(registry, "app", "1")
