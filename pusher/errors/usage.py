"""What was typed, or stands in a setting."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class CommandLineInvalid(PusherError):
    """A command, an option or an argument is not known, or missing."""

    code = "command-line-invalid"
    exit_code = ExitCode.USAGE
    advice = "pusher --help lists the commands, and each has a --help of its own"


class InvalidOption(PusherError):
    """The value of an option or a setting makes no sense."""

    code = "option-invalid"
    exit_code = ExitCode.USAGE
    advice = "see the command's --help"


class ReferenceMalformed(PusherError):
    """An image reference is not written as one."""

    code = "reference-malformed"
    exit_code = ExitCode.USAGE
    advice = "write it like registry.example.com/team/app:1.2"


class JobUnknown(PusherError):
    """There is no job of this number."""

    code = "job-unknown"
    exit_code = ExitCode.USAGE
    advice = "pusher status --all lists the jobs"


class JobStateConflict(PusherError):
    """The job is in a state in which this cannot be done to it."""

    code = "job-state-conflict"
    exit_code = ExitCode.USAGE
    advice = "pusher status JOB shows its state"


class JobCancelled(PusherError):
    """Someone cancelled the job while it was being pushed."""

    code = "job-cancelled"
    exit_code = ExitCode.FAILED
    advice = "push the image again, or put the job back with: pusher retry JOB"


class JobSuperseded(PusherError):
    """A newer job for the same tag took the place of this one."""

    code = "job-superseded"
    exit_code = ExitCode.FAILED
    advice = "pusher status JOB names the newer one; --no-supersede keeps both"


class TagNotYet(PusherError):
    """An older job for the same tag sets it first."""

    code = "tag-not-yet"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "the older job goes on with pusher run; where it is not wanted any more: pusher cancel JOB"


class TagHeld(TagNotYet):
    """The older job is paused, so that waiting for it is of no use."""

    retry = Retry.LATER


class PlainHttpRefused(PusherError):
    """Plain http was asked of a registry that is not on this machine, without consent."""

    code = "plain-http-refused"
    exit_code = ExitCode.USAGE
    advice = "use https, or add --plain-http if you trust the network"


class ConfigInvalid(PusherError):
    """The settings file cannot be read, or holds what makes no sense."""

    code = "config-invalid"
    exit_code = ExitCode.USAGE
    advice = "mend the line that is named; pusher config shows every setting"


class CertificateFileUnusable(PusherError):
    """A certificate file that was named, or lies in a certs.d folder, cannot be used."""

    code = "certificate-file-unusable"
    exit_code = ExitCode.USAGE
    advice = "check the path, and that the file holds PEM certificates"
