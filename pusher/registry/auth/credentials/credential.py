"""Define the value of a credential."""

from __future__ import annotations

from dataclasses import field

from pusher.dataclass import dataclass
from pusher.secret import note_secret


@dataclass(frozen=True)
class Credential:
    """A user name and a password, or a token instead of the password."""

    username: str
    password: str = field(repr=False)
    source: str
    """Where it was found (option, variable, file or program), for messages."""
    identity_token: str | None = field(default=None, repr=False)
    """OAuth2 refresh token, for which a token server issues access tokens."""
    registry_token: str | None = field(default=None, repr=False)
    """Bearer token that is sent to the registry unchanged."""

    @property
    def password_warning(self) -> str:
        """Return what may be wrong with the password, to precede a hint."""
        if not self.password.endswith(("\n", "\r")):
            return ""
        return "its password ends with a line break, as `echo` adds one and `printf %s` does not; "

    def __post_init__(self) -> None:
        note_secret(self.password, username=self.username)
        note_secret(self.identity_token, username="<token>")
        note_secret(self.registry_token)
