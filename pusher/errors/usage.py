"""What was typed, or stands in a setting."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError


class InvalidOption(PusherError):
    """An option's or setting's value makes no sense."""

    code = "option-invalid"
    exit_code = ExitCode.USAGE


class ReferenceMalformed(PusherError):
    """An image reference does not follow the grammar."""

    code = "reference-malformed"
    exit_code = ExitCode.USAGE


class JobUnknown(PusherError):
    """No job has this id."""

    code = "job-unknown"
    exit_code = ExitCode.USAGE


class JobStateConflict(PusherError):
    """The job is in a state in which this cannot be done to it."""

    code = "job-state-conflict"
    exit_code = ExitCode.USAGE


class PlainHttpRefused(PusherError):
    """Plain http was asked of a registry that is not on this machine, without consent."""

    code = "plain-http-refused"
    exit_code = ExitCode.USAGE


class ConfigInvalid(PusherError):
    """``pusher.toml`` cannot be read, or holds what makes no sense."""

    code = "config-invalid"
    exit_code = ExitCode.USAGE


class CertificateFileUnusable(PusherError):
    """A CA or client certificate file that was named, or lies in a certs.d folder, cannot be used."""

    code = "certificate-file-unusable"
    exit_code = ExitCode.USAGE
