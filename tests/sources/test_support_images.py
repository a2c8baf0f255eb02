"""The builders themselves: the same bytes for ever, and archives that an independent reader understands."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.support.images import (
    SHAPES,
    Shape,
    make_image,
    make_layer,
    random_bytes,
    sha256,
    write_archive,
    write_big_archive,
)


def test_golden_digests() -> None:
    assert make_layer(50_000, seed=7).diff_id == (
        "sha256:d62c18e90106658690309c0aef16fa01ab7d0b2e9919eebb61ebc2d2361d5656"
    )
    assert make_image(1000, 2000).config_digest == (
        "sha256:3a71a4797f8cd0453dcb79ae55c7270ad58f2c98513215525e57acb27fe23ac0"
    )


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0.99, 1.01), (0.5, 0.3, 0.7), (1.0, 0.0, 0.05)])
def test_data_compresses_as_asked(share: float, low: float, high: float) -> None:
    data = random_bytes(1_000_000, compressible=share)
    assert len(data) == 1_000_000
    assert low < len(gzip.compress(data, 1)) / len(data) < high


@pytest.mark.parametrize("shape", SHAPES)
def test_every_layer_is_where_manifest_json_says(tmp_path: Path, shape: Shape) -> None:
    image = make_image(5000, 6000)
    with tarfile.open(write_archive(tmp_path / "a.tar", image, shape=shape)) as file:

        def read(name: str) -> bytes:
            member = file.extractfile(name)
            assert member is not None
            return member.read()

        (described,) = json.loads(read("manifest.json"))
        assert described["RepoTags"] == list(image.names)
        assert sha256(read(described["Config"])) == image.config_digest
        for path, layer in zip(described["Layers"], image.layers, strict=True):
            data = read(path)
            assert sha256(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data) == layer.diff_id
            tarfile.open(fileobj=io.BytesIO(layer.tar)).close()


def test_a_big_archive_is_the_same_image(tmp_path: Path) -> None:
    image = write_big_archive(tmp_path / "big.tar", [100_000, 5], name="a:1")
    small = make_image(100_000, 5, names=("a:1",))
    assert (image.config_digest, image.diff_ids) == (small.config_digest, small.diff_ids)
