"""Find the layers of an image that are too large, and plan how each is cut."""

from __future__ import annotations

from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ImageUnsupported, LayerMismatch
from pusher.oci.digest import of_bytes
from pusher.sources.base import Source, SourceImage, SourceLayer
from pusher.sources.split.layer_plan import LayerPlan
from pusher.sources.split.layer_tars import Read, diff_ids_in, open_tar, read_uncompressed, stack_of
from pusher.sources.split.plan import NoRoom, plan_layer

_SHARES: Final = (64, 8, 2)
"""Which part of each part is left for what comes late; the first is nearly always enough."""


@dataclass(frozen=True)
class Planned:
    """The layers to split, in the source's order, and the image's config."""

    layers: tuple[LayerPlan, ...]
    config: bytes


def largest_part(size: int) -> int:
    """Return the size of the largest tar whose blob has at most ``size`` bytes even if incompressible: zstd
    adds at most a 256th (``ZSTD_COMPRESSBOUND``), gzip less."""
    return size - size // 256 - 4096


def plan_image(source: Source, image: SourceImage, size: int) -> Planned:
    """Read once each layer whose blob has, or may have, more than ``size`` bytes; plan its parts.

    Raises ImageUnsupported if that is impossible, and the source's errors.
    """
    limit = largest_part(size)
    large = _large_blobs(image, size)
    for share in _SHARES:
        try:
            return _plan(source, image, large, limit, limit // share)
        except NoRoom:
            continue
    raise ImageUnsupported(
        f"the hard links to files of one part take more than half of its {limit / 2**20:,.1f} MiB",
        hint="use a larger --split-layers",
    )


def _plan(
    source: Source, image: SourceImage, large: dict[str, tuple[SourceLayer, str]], limit: int, reserve: int
) -> Planned:
    plans: list[LayerPlan] = []

    def plan(read: Read, name: str | None, diff_id: str | None) -> None:
        plans.append(plan_layer(read, limit=limit, reserve=reserve, name=name, diff_id=diff_id))

    wanted = {layer.key for layer in image.layers if layer.blob is None}
    for name, (layer, diff_id) in large.items():
        if layer.file is None:
            wanted.add(name)
            continue
        with open_tar(layer.file) as read:
            plan(read, name, diff_id)
    config = image.config
    if config is None:
        wanted.add(image.config_digest)
    if wanted:
        with source.export(wanted) as pieces:
            for piece in pieces:
                if piece.name == image.config_digest:
                    config = piece.stream.read()
                elif piece.name in large:
                    read = read_uncompressed(piece.stream, f"layer {piece.name}")
                    plan(read, piece.name, large[piece.name][1])
                elif piece.kind == "layer" and piece.size > limit:
                    plan(piece.stream.read, piece.name, piece.name)
    if config is None:
        raise ArchiveInvalid("the export of the image lacks its config", hint="build or pull it again")
    if of_bytes(config) != image.config_digest:
        raise LayerMismatch(
            f"the image's config should have digest {image.config_digest}, its bytes have {of_bytes(config)}",
            hint="the source is damaged: save or pull the image again",
        )
    return Planned(tuple(plans), config)


def _large_blobs(image: SourceImage, size: int) -> dict[str, tuple[SourceLayer, str]]:
    """Return the layers whose blobs exist and are too large, by their digests, with their diff IDs."""
    large = {layer.blob.digest for layer in image.layers if layer.blob and layer.blob.size > size}
    if not large:
        return {}
    return {
        layer.export_name: (layer, diff_id)
        for layer, diff_id in zip(stack_of(image), diff_ids_in(image, image.config), strict=True)
        if layer.export_name in large
    }
