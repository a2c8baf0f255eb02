"""What was typed, or is in a setting."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class CommandLineInvalid(PusherError):
    """A command, an option or an argument is unknown or missing."""

    code = "command-line-invalid"
    exit_code = ExitCode.USAGE
    advice = "see pusher --help, and the --help of each command"


class InvalidOption(PusherError):
    """The value of an option or a setting is not valid."""

    code = "option-invalid"
    exit_code = ExitCode.USAGE
    advice = "see the command's --help"


class ReferenceMalformed(PusherError):
    """An image reference is not valid."""

    code = "reference-malformed"
    exit_code = ExitCode.USAGE
    advice = "write it like registry.example.com/team/app:1.2"


class JobUnknown(PusherError):
    """There is no job with this ID."""

    code = "job-unknown"
    exit_code = ExitCode.USAGE
    advice = "pusher status --all lists the jobs"


class JobStateConflict(PusherError):
    """The state of the job does not allow this."""

    code = "job-state-conflict"
    exit_code = ExitCode.USAGE
    advice = "pusher status JOB shows its state"


class JobCancelled(PusherError):
    """The job was cancelled while it was being pushed."""

    code = "job-cancelled"
    exit_code = ExitCode.FAILED
    advice = "push the image again, or requeue the job with: pusher retry JOB"


class JobSuperseded(PusherError):
    """A newer job for the same tag replaced this one."""

    code = "job-superseded"
    exit_code = ExitCode.FAILED
    advice = "pusher status JOB names the newer one; --no-supersede keeps both"


class TagNotYet(PusherError):
    """An older job for the same tag has to set it first."""

    code = "tag-not-yet"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "continue the older job with: pusher run; if it is no longer wanted: pusher cancel JOB"


class TagHeld(TagNotYet):
    """The older job is paused, so waiting for it does not help."""

    retry = Retry.LATER


class PlainHttpRefused(PusherError):
    """Plain HTTP was requested for a registry that is not on this machine."""

    code = "plain-http-refused"
    exit_code = ExitCode.USAGE
    advice = "use https, or add --plain-http if you trust the network"


class ConfigInvalid(PusherError):
    """The settings file cannot be read, or contains an invalid value."""

    code = "config-invalid"
    exit_code = ExitCode.USAGE
    advice = "fix the line that is named; pusher config shows every setting"


class CertificateFileUnusable(PusherError):
    """A certificate file that was given, or is in a certs.d folder, cannot be used."""

    code = "certificate-file-unusable"
    exit_code = ExitCode.USAGE
    advice = "check the path, and that the file contains PEM certificates"
