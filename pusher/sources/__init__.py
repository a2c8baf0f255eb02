"""Where an image comes from: archives, layouts, Docker and Podman."""

from pusher.sources.base import ExportPiece, Source, SourceImage, SourceLayer
from pusher.sources.select import find, mention_path, reopen

__all__ = ["ExportPiece", "Source", "SourceImage", "SourceLayer", "find", "mention_path", "reopen"]
