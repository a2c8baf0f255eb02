"""The place an image is read from."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError


class SourceError(PusherError):
    """Base of what can be wrong with the place an image is read from."""

    code = "source-error"
    exit_code = ExitCode.SOURCE


class ImageNotFound(SourceError):
    """The engine or archive has no image of this name."""

    code = "image-not-found"


class ImageAmbiguous(SourceError):
    """An archive holds several images and none was chosen."""

    code = "image-ambiguous"


class ImageChanged(SourceError):
    """What was enqueued is no longer there: image deleted or archive replaced."""

    code = "image-changed"


class ImageUnsupported(SourceError):
    """The image is of a kind that pusher does not push."""

    code = "image-unsupported"


class ArchiveInvalid(SourceError):
    """The file is no image archive, or its parts contradict each other."""

    code = "archive-invalid"


class ArchiveTruncated(SourceError):
    """The archive ends in the middle of a part."""

    code = "archive-truncated"


class LayerMismatch(SourceError):
    """A layer's bytes do not have the digest that the image promises."""

    code = "layer-mismatch"


class EngineMissing(SourceError):
    """The docker or podman command is not installed."""

    code = "engine-missing"


class EngineNotRunning(SourceError):
    """The Docker daemon does not answer."""

    code = "engine-not-running"


class EngineNotPermitted(SourceError):
    """The Docker socket refuses this user."""

    code = "engine-not-permitted"


class EngineFailed(SourceError):
    """docker or podman ended with an error that fits nothing above."""

    code = "engine-failed"
