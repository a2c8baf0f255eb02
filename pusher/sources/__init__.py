"""Read images from archives, layouts, folders, Docker, Podman and registries."""

from pusher.sources.base import ExportPiece, Source, SourceImage, SourceLayer
from pusher.sources.select import find, mention_path, reopen

__all__ = ["ExportPiece", "Source", "SourceImage", "SourceLayer", "find", "mention_path", "reopen"]
