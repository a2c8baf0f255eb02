"""Images in another registry over a bad link, and those that cannot be had."""

from __future__ import annotations

import json
from functools import partial

import pytest

from pusher.errors import (
    ExitCode,
    ImageChanged,
    ImageNotFound,
    ImageUnsupported,
    InvalidOption,
    LayerMismatch,
    ReferenceMalformed,
)
from pusher.oci import media_types
from pusher.spool import disk
from pusher.store.records import JobState
from tests.support.fakeregistry import (
    SERVERLESS,
    Answer,
    BreakBody,
    FakeRegistry,
    Fault,
    On,
    Stall,
    StallBody,
    busy,
)
from tests.support.home import CHUNK, Background, Home, blob_bytes
from tests.support.images import OCI_MANIFEST, Image, make_image, random_bytes, sha256
from tests.support.waiting import PATIENCE, wait_until
from tests.worker.origin import SOURCE, is_layer, name_of, put, same

# --- a bad link -------------------------------------------------------------------------------------------


def test_breaks_on_the_way_cost_nothing(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    path = is_layer(image, 0)
    origin.faults.add(
        Fault(On.GET_BLOB, BreakBody(20_000), path=path),
        Fault(On.GET_BLOB, BreakBody(10_000), nth=2, path=path),
        Fault(On.GET_BLOB, busy("0"), nth=3, path=path),
    )
    home.push(name_of(origin), f"{registry.address}/app:1")
    same(origin, registry, image)
    ranges = [r.headers.get("range") for r in origin.requests(On.GET_BLOB) if path in r.path]
    assert ranges == [None, "bytes=20000-", "bytes=30000-", "bytes=30000-"]
    origin.faults.assert_all_fired()


def test_a_source_without_ranges(home: Home, registry: FakeRegistry, image: Image) -> None:
    with FakeRegistry(SERVERLESS) as origin:
        put(origin, image)
        origin.faults.add(Fault(On.GET_BLOB, BreakBody(20_000), path=is_layer(image, 0)))
        home.push(name_of(origin), f"{registry.address}/app:1")
        same(origin, registry, image)
    assert any("does not continue at byte 20000" in note for (note,) in home.progress.of("note"))


def test_a_run_that_ends_is_gone_on_with(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    """Stopped in the middle of a blob by the end of its registry: what was fetched is there the next time."""
    put(origin, image)
    stall = StallBody(after_bytes=30_000)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=is_layer(image, 0)))
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home, give_up_after=0.3)
    wait_until(lambda: home.spool.fetched_size(is_layer(image, 0)) == 30_000)
    origin.stop()
    origin.faults.clear()
    assert worker.join().exit_code == ExitCode.UNFINISHED
    assert home.state(job.id) == JobState.WAITING
    origin.start()
    home.store.jobs.retry(job.id)
    assert home.run([job.id]).exit_code == 0
    same(origin, registry, image)
    ranges = [r.headers.get("range") for r in origin.requests(On.GET_BLOB) if is_layer(image, 0) in r.path]
    assert ranges == [None, "bytes=30000-"]


def test_the_first_blobs_are_sent_while_others_are_fetched(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    stall = StallBody(after_bytes=30_000)
    origin.faults.add(Fault(On.GET_BLOB, stall, path=is_layer(image, 0)))
    home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home)
    assert stall.reached.wait(PATIENCE)
    registry.wait_for(lambda r: {is_layer(image, 1), is_layer(image, 2)} <= set(r.blobs["app"]))
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)


def test_at_most_three_at_once_the_biggest_first(
    home: Home, origin: FakeRegistry, registry: FakeRegistry
) -> None:
    image = make_image(1_100_000, 1_500_000, 1_400_000, 1_300_000, 1_200_000, compressible=0.0)
    layers = [layer.digest for layer in image.layers]
    assert _fetched_at_once(home, origin, registry, image, 3) == {image.config_digest, *layers[1:4]}


def test_small_ones_take_responses_more_than_the_link_and_are_fetched_six_at_once(
    home: Home, origin: FakeRegistry, registry: FakeRegistry
) -> None:
    image = make_image(*range(50_000, 95_000, 5_000), compressible=0.0)
    layers = [layer.digest for layer in image.layers]
    assert _fetched_at_once(home, origin, registry, image, 6) == {image.config_digest, *layers[3:]}


def _fetched_at_once(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image, most: int
) -> set[str]:
    """Return which blobs are asked for while the bodies of ``most`` layers do not come."""
    put(origin, image)
    stall = StallBody(after_bytes=0)
    layers = partial(lambda digests, request: any(d in request.target for d in digests))
    digests = [layer.digest for layer in image.layers]
    origin.faults.add(Fault(On.GET_BLOB, stall, times=most, where=partial(layers, digests)))
    home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home)
    origin.wait_for(lambda r: len([x for x in r.requests(On.GET_BLOB) if x.faults]) == most)
    asked = {record.path.rpartition("/")[2] for record in origin.requests(On.GET_BLOB)}
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)
    return asked


def test_a_blob_is_fetched_while_the_registry_is_still_asked_for_others(
    home: Home, origin: FakeRegistry, registry: FakeRegistry
) -> None:
    image = make_image(50_000, 40_000, 30_000, compressible=0.0)
    put(origin, image)
    first, second, third = (layer.digest for layer in image.layers)
    registry.add_blob("app", image.layers[2].gzip)
    stall = Stall()
    for digest in (second, third):
        registry.faults.add(Fault(On.HEAD_BLOB, stall, path=digest))
    home.enqueue(name_of(origin), f"{registry.address}/app:1")
    worker = Background(home)
    registry.wait_for(lambda r: first in r.blobs["app"])
    assert second not in registry.blobs["app"]
    stall.release()
    assert worker.join().exit_code == 0
    same(origin, registry, image)
    assert not [each for each in origin.requests(On.GET_BLOB) if third in each.path]


def test_several_at_once_only_where_the_disk_has_room_for_all(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would fit alone; three halves would fill the disk, and none ever be whole."""
    image = make_image(50_000, 40_000, 30_000, compressible=0.0)
    put(origin, image)
    monkeypatch.setattr(disk, "room_at", lambda folder: 60_000)
    layers = {layer.digest for layer in image.layers}
    slow = Answer(503, {"Retry-After": "0"})
    origin.faults.add(*(Fault(On.GET_BLOB, slow, path=digest) for digest in layers))
    home.push(name_of(origin), f"{registry.address}/app:1")
    same(origin, registry, image)
    order = [r.path[-71:] for r in origin.requests(On.GET_BLOB) if r.path[-71:] in layers]
    assert order == [layer.digest for layer in image.layers for _ in range(2)]


def test_progress_tells_what_is_fetched(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    job = home.push(name_of(origin), f"{registry.address}/app:1")
    for layer in image.layers:
        size = len(layer.gzip)
        assert (job.id, layer.diff_id, layer.digest, size, None) in home.progress.of("prepared")
        assert any(call[1] == layer.diff_id and call[3] == size for call in home.progress.of("preparing"))


# --- what cannot be ---------------------------------------------------------------------------------------


def test_an_image_that_is_not_there(home: Home, origin: FakeRegistry) -> None:
    for rest in (":1.2", "@" + sha256(b"nothing")):
        with pytest.raises(ImageNotFound, match=origin.address) as error:
            home.enqueue(name_of(origin, rest), "registry.example.com/app:1")
        assert error.value.exit_code == ExitCode.SOURCE
        assert f"pusher login {origin.address}" in error.value.hint


def test_an_image_that_is_gone_when_its_turn_comes(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    origin.remove_blob(SOURCE, is_layer(image, 0))
    result = home.run([job.id])
    assert result.exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert error.code == ImageChanged.code
    assert f"{origin.address}/{SOURCE}" in error.message
    assert "1" not in registry.manifests["app"]


def test_without_a_destination_it_is_where_it_belongs(home: Home, origin: FakeRegistry) -> None:
    with pytest.raises(InvalidOption) as error:
        home.enqueue(name_of(origin))
    assert error.value.exit_code == ExitCode.USAGE
    assert "--to registry.example.com/team/app:1.2" in error.value.hint
    with pytest.raises(InvalidOption) as error:
        home.enqueue(name_of(origin), default_registry="r.example.com/x")
    assert "--to r.example.com/x/app:1.2" in error.value.hint
    assert origin.requests() == []


def test_a_digest_alone_is_no_name(home: Home, origin: FakeRegistry, image: Image) -> None:
    digest = put(origin, image)
    with pytest.raises(InvalidOption, match="has no name to be pushed as"):
        home.enqueue(name_of(origin, f"@{digest}"), "registry.example.com")


def test_a_reference_that_is_none(home: Home) -> None:
    for text in ("docker://", "docker://Registry.example.com/App:1", "docker://r.example.com/app@sha256:12"):
        with pytest.raises(ReferenceMalformed):
            home.enqueue(text, "registry.example.com/app:1")


def test_schema_1_is_refused_with_the_reason(home: Home, origin: FakeRegistry) -> None:
    raw = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
    origin.add_manifest(SOURCE, "1.2", media_types.DOCKER_SCHEMA_1_SIGNED, raw)
    with pytest.raises(ImageUnsupported, match="schema version 1"):
        home.enqueue(name_of(origin), "registry.example.com/app:1")
    accept = [kind.strip() for kind in origin.requests(On.GET_MANIFEST)[0].headers["accept"].split(",")]
    assert set(accept[:4]) == media_types.MANIFESTS | media_types.INDEXES
    assert set(accept[4:]) == {media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED}


def test_a_manifest_whose_bytes_are_others(home: Home, origin: FakeRegistry, image: Image) -> None:
    digest = put(origin, image)
    changed = Answer(200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest}, b"{}")
    origin.faults.add(Fault(On.GET_MANIFEST, changed, times=2))
    for rest in (":1.2", f"@{digest}"):
        with pytest.raises(LayerMismatch, match=origin.address):
            home.enqueue(name_of(origin, rest), "registry.example.com/app:1")
    home.enqueue(name_of(origin), "registry.example.com/app:1")


def test_a_config_whose_bytes_are_others(home: Home, origin: FakeRegistry, image: Image) -> None:
    put(origin, image)
    origin.faults.add(Fault(On.GET_BLOB, Answer(200, {}, b"x" * len(image.config))))
    with pytest.raises(LayerMismatch, match=image.config_digest):
        home.enqueue(name_of(origin), "registry.example.com/app:1")


def test_a_manifest_of_100_megabytes_is_refused(home: Home, origin: FakeRegistry) -> None:
    """A good part of it is not even read."""
    raw = b'{"schemaVersion":2,"x":"' + b"x" * 100_000_000 + b'"}'
    origin.add_manifest(SOURCE, "1.2", OCI_MANIFEST, raw)
    with pytest.raises(ImageUnsupported, match="larger than any registry"):
        home.enqueue(name_of(origin), "registry.example.com/app:1")


def test_a_short_fault_while_the_image_is_looked_for(home: Home, origin: FakeRegistry, image: Image) -> None:
    put(origin, image)
    origin.faults.add(Fault(On.GET_MANIFEST, busy()), Fault(On.GET_BLOB, Answer(502)))
    job = home.enqueue(name_of(origin), "registry.example.com/app:1")
    assert job.source["root_digest"] == sha256(image.manifest)
    origin.faults.assert_all_fired()


def test_wrong_bytes_that_stay_wrong(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    size = len(image.layers[0].gzip)
    origin.faults.add(
        Fault(On.GET_BLOB, Answer(200, {}, random_bytes(size)), times=None, path=is_layer(image, 0))
    )
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert error.code == LayerMismatch.code
    assert registry.manifests["app"] == {}
    assert blob_bytes(registry, "app") <= 2 * CHUNK + len(image.config)
