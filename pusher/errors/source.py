"""The place an image is read from."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class SourceError(PusherError):
    """The file or folder that an image is read from cannot be read."""

    code = "source-error"
    exit_code = ExitCode.SOURCE
    advice = "check that it exists and that you may read it"


class ImageNotFound(SourceError):
    """There is no image of this name."""

    code = "image-not-found"
    advice = "list what is there with: docker image ls"


class ImageAmbiguous(SourceError):
    """An archive holds several images, and none was chosen."""

    code = "image-ambiguous"
    advice = "choose one: docker-archive:FILE:NAME"


class ImageChanged(SourceError):
    """What was enqueued is no longer there: the image was deleted, or the archive replaced."""

    code = "image-changed"
    advice = "enqueue the image again with: pusher enqueue IMAGE"


class ImageIncomplete(SourceError):
    """The source lacks parts of the image: platforms that were never pulled, blobs that were thrown away."""

    missing: tuple[str, ...] = ()
    """Digests of the blobs it lacks, if it lacks nothing else."""
    code = "image-incomplete"
    advice = "pull or save the whole image, or push one platform of it with --platform"


class ImageUnsupported(SourceError):
    """The image is of a kind that pusher does not push."""

    code = "image-unsupported"
    advice = "build or save it in another form, with docker build or docker save"


class ArchiveInvalid(SourceError):
    """The file is no image archive, or its parts contradict each other."""

    code = "archive-invalid"
    advice = "write it again with: docker save -o FILE IMAGE"


class ArchiveTruncated(SourceError):
    """The archive ends in the middle."""

    code = "archive-truncated"
    advice = "write or copy it again; it was perhaps not finished"


class LayerMismatch(SourceError):
    """A layer's bytes do not have the digest that the image promises."""

    code = "layer-mismatch"
    advice = "write the archive, or pull or build the image, again"


class EngineMissing(SourceError):
    """The docker or podman command is not installed."""

    code = "engine-missing"
    advice = "install Docker or Podman, or push an archive: pusher push FILE --to REFERENCE"


class EngineNotRunning(SourceError):
    """The Docker daemon does not answer."""

    code = "engine-not-running"
    advice = "start it, with: sudo systemctl start docker"


class EngineNotPermitted(SourceError):
    """The Docker daemon's socket refuses this user."""

    code = "engine-not-permitted"
    advice = "join the group docker, or use sudo"


class EngineFailed(SourceError):
    """The docker or podman command ended with an error."""

    code = "engine-failed"
    advice = "mend what it says, then try again"


class SourceStalled(SourceError):
    """The source gives nothing, and does not end."""

    code = "source-stalled"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "look what holds it up: docker info, or the disk that it reads"


class StorageDoubtful(SourceError):
    """What lies on an engine's disk is not what the image should be, or cannot be read."""

    code = "storage-doubtful"
    advice = "read it through the engine instead: docker-daemon:NAME or podman:NAME"
