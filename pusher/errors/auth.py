"""Authentication and permission."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError


class PasswordMissing(PusherError):
    """A password was expected, and none or an empty one was given."""

    code = "password-missing"
    exit_code = ExitCode.AUTH
    advice = "pipe the password in with --password-stdin, or set PUSHER_PASSWORD"


class CredentialsMissing(PusherError):
    """The registry requires a login, and no credential for it is known."""

    code = "credentials-missing"
    exit_code = ExitCode.AUTH
    advice = "log in with: pusher login REGISTRY"


class CredentialsRejected(PusherError):
    """The registry rejected the user name or the password."""

    code = "credentials-rejected"
    exit_code = ExitCode.AUTH
    advice = "log in again with: pusher login REGISTRY"


class CredentialsUnreadable(PusherError):
    """A file with credentials cannot be read."""

    code = "credentials-unreadable"
    exit_code = ExitCode.AUTH
    advice = "fix the file, or move it away and log in again with: pusher login REGISTRY"


class PermissionDenied(PusherError):
    """The login is valid, but may not push to this repository."""

    code = "permission-denied"
    exit_code = ExitCode.AUTH
    advice = "check the repository's name, and ask the registry's administrator for permission to push to it"


class AuthenticationUnsupported(PusherError):
    """The registry asks for an authentication scheme that pusher does not support."""

    code = "authentication-unsupported"
    exit_code = ExitCode.AUTH
    advice = "report it as a bug, with the registry's name"


class CredentialHelperFailed(PusherError):
    """A credential helper of Docker cannot be run, or failed."""

    code = "credential-helper-failed"
    exit_code = ExitCode.AUTH
    advice = "fix what it reports, or log in with --username and --password-stdin"


class CredentialsUnwritable(PusherError):
    """The file in which Docker or Podman keeps credentials cannot be written."""

    code = "credentials-unwritable"
    exit_code = ExitCode.AUTH
    advice = "make the file writable, or log in with each command: --username and --password-stdin"
