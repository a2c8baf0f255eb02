"""Authentication and permission."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError


class PasswordMissing(PusherError):
    """A password was announced, and none or an empty one came."""

    code = "password-missing"
    exit_code = ExitCode.AUTH
    advice = "pipe the password in with --password-stdin, or set PUSHER_PASSWORD"


class CredentialsMissing(PusherError):
    """The registry wants a login, and no credential is known for it."""

    code = "credentials-missing"
    exit_code = ExitCode.AUTH
    advice = "log in with: pusher login REGISTRY"


class CredentialsRejected(PusherError):
    """The registry does not accept the user name or the password that it was given."""

    code = "credentials-rejected"
    exit_code = ExitCode.AUTH
    advice = "log in again with: pusher login REGISTRY"


class CredentialsUnreadable(PusherError):
    """A file with credentials exists and cannot be used."""

    code = "credentials-unreadable"
    exit_code = ExitCode.AUTH
    advice = "mend the file, or move it away and log in again with: pusher login REGISTRY"


class PermissionDenied(PusherError):
    """The login is accepted, but it may not push to this repository."""

    code = "permission-denied"
    exit_code = ExitCode.AUTH
    advice = "check the repository's name, and ask the registry's owner for the right to push to it"


class AuthenticationUnsupported(PusherError):
    """The registry asks for a way to authenticate that pusher does not know."""

    code = "authentication-unsupported"
    exit_code = ExitCode.AUTH
    advice = "report it as a bug, with the name of the registry"


class CredentialHelperFailed(PusherError):
    """A program that keeps credentials for Docker cannot be run, or fails."""

    code = "credential-helper-failed"
    exit_code = ExitCode.AUTH
    advice = "mend what it says, or log in with --username and --password-stdin"


class CredentialsUnwritable(PusherError):
    """The place where Docker or Podman keep credentials cannot be changed."""

    code = "credentials-unwritable"
    exit_code = ExitCode.AUTH
    advice = "make the file writable, or give the login with each command: --username and --password-stdin"
