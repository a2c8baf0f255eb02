"""Read images from archives, layouts, folders, Docker, Podman and registries."""

from pusher.sources.base import ExportPiece, Source, SourceImage, SourceLayer
from pusher.sources.mistyped_image import mention_path
from pusher.sources.select import find, list_tagged, reopen

__all__ = [
    "ExportPiece",
    "Source",
    "SourceImage",
    "SourceLayer",
    "find",
    "list_tagged",
    "mention_path",
    "reopen",
]
