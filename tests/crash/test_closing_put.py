"""``kill -9`` inside the closing PUT that carries the rest of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from pusher.registry.upload.chunk_sizes import DEFAULT_CHUNK
from tests.crash.conftest import Pusher, ended
from tests.support.fakeregistry import DISTRIBUTION_2, DISTRIBUTION_3, FakeRegistry, Fault, On, Rules, Stall
from tests.support.home import Home, blob_bytes, pushed
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

LAYER: Final = DEFAULT_CHUNK + 5_000_000
"""Bytes of a layer that does not shrink: a chunk, and more than the system keeps in its buffers."""


@pytest.mark.parametrize(
    ("rules", "sent_again"),
    [(DISTRIBUTION_2, LAYER), (DISTRIBUTION_3, 0)],
    ids=["distribution-2", "distribution-3"],
)
def test_what_arrived_is_kept_where_the_registry_keeps_it(
    rules: Rules, sent_again: int, home: Home, pusher: Pusher, tmp_path: Path
) -> None:
    """Distribution 2 keeps nothing, as of a chunk of any size."""
    image = make_image(LAYER, compressible=0.0)
    stall = Stall(after_bytes=1_000_000)
    with FakeRegistry(rules, receive_buffer=64 * 1024) as registry:
        registry.faults.add(Fault(On.CLOSE, stall))
        job = home.enqueue(write_archive(tmp_path / "layer.tar", image), f"{registry.address}/app:1")
        killed = pusher.start("run", "--no-early")
        assert stall.reached.wait(PATIENCE), "the rest goes in the PUT"
        killed.kill()
        killed.wait()
        stall.release()
        registry.wait_for(lambda r: all(record.finished for record in r.log))
        again = ended(pusher.start("run"))
        assert again.returncode == 0, again.stderr
        pushed(registry, "app", "1", image)
        assert 0 <= registry.body_bytes_received() - blob_bytes(registry, "app") <= sent_again
        assert home.state(job.id) == "succeeded"
        home.assert_clean()
