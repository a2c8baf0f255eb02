"""A ``pusher`` process killed while it fetches an image from another registry."""

from __future__ import annotations

from tests.crash.conftest import Pusher, ended
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, Fault, On, StallBody
from tests.support.home import Home
from tests.support.images import OCI_MANIFEST, Image, sha256
from tests.support.waiting import PATIENCE, wait_until


def _put(origin: FakeRegistry, image: Image) -> str:
    for blob in (image.config, *(layer.gzip for layer in image.layers)):
        origin.add_blob("team/app", blob)
    return origin.add_manifest("team/app", "1", OCI_MANIFEST, image.manifest)


def _sent(origin: FakeRegistry, digest: str) -> list[str | None]:
    return [r.headers.get("range") for r in origin.requests(On.GET_BLOB) if digest in r.path]


def test_killed_in_the_middle_only_the_rest_is_fetched(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image
) -> None:
    """SIGKILL with 40,000 bytes of the biggest blob here and the smaller ones whole."""
    with FakeRegistry(DISTRIBUTION_3) as origin:
        manifest = _put(origin, image)
        big = image.layers[0].digest
        stall = StallBody(after_bytes=40_000)
        origin.faults.add(Fault(On.GET_BLOB, stall, path=big))
        job = home.enqueue(f"docker://{origin.address}/team/app:1", f"{registry.address}/app:1")
        first = pusher.start("run", "--parallel", "1")
        assert stall.reached.wait(PATIENCE)
        others = {layer.digest for layer in image.layers[1:]}
        registry.wait_for(lambda r: others <= set(r.blobs["app"]))
        wait_until(lambda: home.spool.fetched_size(big) == 40_000)
        first.kill()
        assert ended(first).returncode == -9
        stall.release()
        assert home.spool.fetched_size(big) == 40_000
        done = pusher.work()
        assert done.returncode == 0, done.stderr
        assert _sent(origin, big) == [None, "bytes=40000-"]
        for digest in others:
            assert _sent(origin, digest) == [None]
        assert home.job(job.id).digest == manifest
        assert registry.manifests["app"]["1"][1] == image.manifest
        for layer in image.layers:
            assert sha256(registry.blob("app", layer.digest)) == layer.digest
    home.assert_clean()


def test_push_of_one_process_by_name(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image
) -> None:
    """The whole command; its stdout is the reference with the digest of the source."""
    with FakeRegistry(DISTRIBUTION_3) as origin:
        manifest = _put(origin, image)
        source = f"docker://{origin.address}/team/app:1"
        done = ended(pusher.start("push", source, "--to", f"{registry.address}/app:1"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{registry.address}/app@{manifest}"
        assert "fetching" in done.stderr
        nowhere = ended(pusher.start("push", source))
        assert nowhere.returncode == 2
        assert f"pusher push {source} --to" in nowhere.stderr


def test_two_processes_fetch_a_blob_once(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image
) -> None:
    """Two jobs, two workers, one spool."""
    with FakeRegistry(DISTRIBUTION_3) as origin:
        _put(origin, image)
        for tag in ("1", "2"):
            home.enqueue(f"docker://{origin.address}/team/app:1", f"{registry.address}/r{tag}/app:1")
        runs = [pusher.start("run", "--parallel", "1") for _ in range(2)]
        for run in runs:
            done = ended(run)
            assert done.returncode == 0, done.stderr
        for layer in image.layers:
            assert _sent(origin, layer.digest) == [None]
        for tag in ("1", "2"):
            assert registry.manifests[f"r{tag}/app"]["1"][1] == image.manifest
    home.assert_clean()
