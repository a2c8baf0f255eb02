"""Define the blob of a layer, with its compression."""

from __future__ import annotations

from typing import Final

from pusher.dataclass import dataclass

ORIGINAL: Final = "original"
"""The compression of a blob that came compressed and is kept as it is."""
COMPARED: Final = "compared"
"""The same, once it was unpacked and compared with the diff ID."""


@dataclass(frozen=True)
class LayerBlob:
    """The blob of a layer, compressed by pusher or by its source. Sizes in bytes."""

    digest: str
    size: int
    compression: str
    """Compressor and level, like ``isal-1.8:2``; ``ORIGINAL`` or ``COMPARED``."""
    media_type: str
    diff_id: str | None = None
    """None where the blob was not unpacked."""
    uncompressed_size: int | None = None
