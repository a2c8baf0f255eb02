"""Authentication and permission."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError


class PasswordMissing(PusherError):
    """A password was announced and none, or an empty one, came."""

    code = "password-missing"
    exit_code = ExitCode.AUTH


class CredentialsMissing(PusherError):
    """The registry wants a login and no credential is known for it."""

    code = "credentials-missing"
    exit_code = ExitCode.AUTH


class CredentialsRejected(PusherError):
    """The registry answers 401 to the credential it was given."""

    code = "credentials-rejected"
    exit_code = ExitCode.AUTH


class CredentialsUnreadable(PusherError):
    """A credential file exists and cannot be used."""

    code = "credentials-unreadable"
    exit_code = ExitCode.AUTH


class PermissionDenied(PusherError):
    """The login is accepted, the push is not allowed (403)."""

    code = "permission-denied"
    exit_code = ExitCode.AUTH


class AuthenticationUnsupported(PusherError):
    """The registry asks for a way to authenticate that pusher does not know."""

    code = "authentication-unsupported"
    exit_code = ExitCode.AUTH


class CredentialHelperFailed(PusherError):
    """A ``docker-credential-*`` program cannot be run, or fails; its own words are passed on."""

    code = "credential-helper-failed"
    exit_code = ExitCode.AUTH


class CredentialsUnwritable(PusherError):
    """``login`` or ``logout`` cannot change the place where Docker or Podman keep credentials."""

    code = "credentials-unwritable"
    exit_code = ExitCode.AUTH
