"""An index whose push is killed between its manifests: the next run sends no blob again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.crash.conftest import Pusher
from tests.support.fakeregistry import FakeRegistry, On
from tests.support.home import Home
from tests.support.layouts import two_platforms


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 3, 5])
def test_killed_between_the_manifests(
    home: Home, registry: FakeRegistry, pusher: Pusher, tmp_path: Path, when: str, nth: int
) -> None:
    layout, root = two_platforms()
    job = home.enqueue(f"oci:{layout.write_folder(tmp_path / 'layout')}", f"{registry.address}/app:1")
    assert pusher.work(point=("put the manifest", when, nth)).returncode == -signal.SIGKILL
    held = registry.manifests.get("app", {})
    assert ("1" in held) == ((when, nth) == ("after", 5)), "nobody pulls a half-pushed image"
    sent = registry.body_bytes_received()
    assert pusher.work().returncode == 0
    assert home.job(job.id).digest == root["digest"]
    assert registry.manifests["app"]["1"][1] == layout.blobs[root["digest"]]
    assert registry.body_bytes_received() == sent, "every blob was there already"
    assert registry.requests(On.CHUNK, On.OPEN)[-1].at < registry.requests(On.PUT_MANIFEST)[0].at
    home.assert_clean()


def test_killed_while_a_blob_of_it_is_sent(
    home: Home, registry: FakeRegistry, pusher: Pusher, tmp_path: Path
) -> None:
    layout, root = two_platforms()
    job = home.enqueue(f"oci:{layout.write_folder(tmp_path / 'layout')}", f"{registry.address}/app:1")
    assert pusher.work(point=("close an upload", "before", 2)).returncode == -signal.SIGKILL
    assert pusher.work().returncode == 0
    assert home.job(job.id).digest == root["digest"]
    assert registry.body_bytes_received() == home.figures(job.id)[0], "nothing was sent twice"
    home.assert_clean()
