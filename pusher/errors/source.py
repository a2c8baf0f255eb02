"""The place an image is read from."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class SourceError(PusherError):
    """The file or folder that an image is read from cannot be read."""

    code = "source-error"
    exit_code = ExitCode.SOURCE
    advice = "check that it exists and that you can read it"


class ImageNotFound(SourceError):
    """There is no image with this name."""

    code = "image-not-found"
    advice = "list the images with: docker image ls"


class ImageAmbiguous(SourceError):
    """An archive contains several images, and none was chosen."""

    code = "image-ambiguous"
    advice = "choose one: docker-archive:FILE:NAME"


class ImageChanged(SourceError):
    """The image that was enqueued no longer exists: it was deleted, or its archive was replaced."""

    code = "image-changed"
    advice = "enqueue the image again with: pusher enqueue IMAGE"


class ImageIncomplete(SourceError):
    """Parts of the image are missing: platforms that were never pulled, or blobs that were deleted."""

    missing: tuple[str, ...] = ()
    """Digests of the blobs it lacks, if it lacks nothing else."""
    code = "image-incomplete"
    advice = "pull or save the whole image, or push one platform with --platform"


class ImageUnsupported(SourceError):
    """The image is of a kind that pusher cannot push."""

    code = "image-unsupported"
    advice = "build or save it in another form, with docker build or docker save"


class ArchiveInvalid(SourceError):
    """The file is not an image archive, or its parts do not match."""

    code = "archive-invalid"
    advice = "write it again with: docker save -o FILE IMAGE"


class ArchiveTruncated(SourceError):
    """The archive is truncated."""

    code = "archive-truncated"
    advice = "write or copy it again; it may not have been finished"


class LayerMismatch(SourceError):
    """The content of a layer does not have the digest that the image lists."""

    code = "layer-mismatch"
    advice = "save, pull or build the image again"


class PipedArchiveUnusable(SourceError):
    """An archive that came through a pipe is damaged, or not kept any more."""

    code = "piped-archive-unusable"
    fixable = False
    advice = "pipe the image to pusher again"


class EngineMissing(SourceError):
    """The docker or podman command is not installed."""

    code = "engine-missing"
    advice = "install Docker or Podman, or push an archive: pusher push FILE --to REFERENCE"


class EngineNotRunning(SourceError):
    """The Docker daemon does not respond."""

    code = "engine-not-running"
    retry = Retry.OFFLINE
    advice = "start it with: sudo systemctl start docker"


class EngineNotPermitted(SourceError):
    """This user may not use the Docker daemon's socket."""

    code = "engine-not-permitted"
    advice = "add yourself to the docker group, or use sudo"


class EngineFailed(SourceError):
    """The docker or podman command failed."""

    code = "engine-failed"
    advice = "fix what it reports, then try again"


class SourceStalled(SourceError):
    """The source stopped delivering data."""

    code = "source-stalled"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "check the engine (docker info) or the disk that is read"


class StorageDoubtful(SourceError):
    """The data on an engine's disk does not match the image, or cannot be read."""

    code = "storage-doubtful"
    advice = "read it through the engine instead: docker-daemon:NAME or podman:NAME"
