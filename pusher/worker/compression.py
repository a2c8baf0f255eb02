"""Define the compression that was asked for, and which known blobs of a layer it allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.oci import media_types
from pusher.oci.layer_blob import LayerBlob
from pusher.spool.compress import Compression, Kind

KEEP: Final = "keep"
AUTO: Final = "auto"
COMPRESSION_NAMES: Final = (*Kind, KEEP, AUTO)

ZSTD_NOTE: Final = (
    "layers are zstd: containerd 1.5, Docker 23, current Podman, CRI-O and newer pull them; "
    "some scanners and older tools do not"
)

_KINDS: Final[Mapping[str, Kind]] = {
    media_types.OCI_LAYER_GZIP: Kind.GZIP,
    media_types.OCI_LAYER_ZSTD: Kind.ZSTD,
    media_types.OCI_LAYER: Kind.NONE,
}


@dataclass(frozen=True)
class RequestedCompression:
    """The compression that was asked for, for layers that have no final blob yet."""

    name: str
    """One of ``COMPRESSION_NAMES``."""
    compression: Compression | None
    """For new blobs; None: chosen for each (``auto``)."""
    threads: int | None = None
    """Threads that compress one layer; None: one for each processor."""
    follows_link: bool = False
    """Whether the level is to fit the link; that of ``compression`` is for links not known."""
    level_reason: str | None = None
    """Why it is the level of ``compression``, for the user; None if nobody set it."""

    @classmethod
    def for_job(cls, options: Mapping[str, object], settings: Settings) -> RequestedCompression:
        """Return the job's compression, or the settings'. Raises InvalidOption."""
        name = str(options.get("compression") or settings.compression)
        level, reason = options.get("compression_level"), "set for this job"
        # the level in the settings is for the kind in the settings
        if level is None and _new_blob_kind(name) is _new_blob_kind(settings.compression):
            level, reason = settings.compression_level, "set by compression_level"
        parsed = cls.parse(name, None if level is None else int(str(level)), settings.compression_threads)
        return parsed if level is None else replace(parsed, level_reason=reason)

    @classmethod
    def parse(cls, name: str, level: int | None, threads: int | None = None) -> RequestedCompression:
        """Check a name and a level. Raises InvalidOption."""
        if name not in COMPRESSION_NAMES:
            raise InvalidOption(
                f"{name!r} is not a compression",
                hint=f"use --compression {', '.join(COMPRESSION_NAMES[:-1])} or {AUTO}",
            )
        if name == AUTO:
            if level is not None:
                raise InvalidOption(
                    "compression auto chooses its level itself",
                    hint="leave out --compression-level, or use --compression gzip or zstd",
                )
            return cls(name, None, threads)
        kind = _new_blob_kind(name) or Kind.GZIP
        follows_link = kind is Kind.GZIP and level is None
        return cls(name, Compression.of(kind, level, threads), threads, follows_link)

    @property
    def is_explicit(self) -> bool:
        """Return whether one kind was set explicitly, so that no other is accepted."""
        return self.name in tuple(Kind)

    def accepts(self, media_type: str) -> bool:
        """Return whether a blob with this media type, already at the tag, can be used."""
        kind = compression_kind(media_type)
        return kind is not None and (not self.is_explicit or kind == self.name)

    def usable_blobs(self, diff_id: str, known: Iterable[LayerBlob]) -> list[LayerBlob]:
        """Return the known blobs that can be used for a layer.

        Any level of a kind is good enough. The digest of an uncompressed layer is its diff ID.
        """
        if self.compression is None:
            return [blob for blob in known if compression_kind(blob.media_type)]
        kind = self.compression.kind
        if kind is not Kind.NONE:
            return [blob for blob in known if compression_kind(blob.media_type) is kind]
        sizes = [blob.uncompressed_size for blob in known if blob.uncompressed_size is not None]
        made = self.compression
        return [LayerBlob(diff_id, size, made.label, made.media_type, diff_id, size) for size in sizes[:1]]


def compression_kind(media_type: str) -> Kind | None:
    """Return how a layer's blob is compressed; None if it is not an ordinary layer."""
    return _KINDS.get(media_types.TO_OCI.get(media_type, ""))


def _new_blob_kind(name: str) -> Kind | None:
    """Return the kind for new blobs; None for ``auto``."""
    return Kind.GZIP if name == KEEP else next((kind for kind in Kind if kind == name), None)
