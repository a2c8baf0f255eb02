"""The states of a blob's upload, and the arrows between them.

An upload is always in one of these states, and every step returns the next one:

    from     what happened                                                        to
    ----     -------------                                                        --
    OPEN     a session was opened                                                 SEND
    OPEN     a session was opened for a blob that goes whole, or is empty         CLOSE
    OPEN     the registry mounted the blob, or has it from elsewhere              DONE
    SEND     a chunk was acknowledged, or may be sent again                       SEND
    SEND     a chunk was acknowledged, and the rest goes in the closing PUT       CLOSE
    SEND     the blob was unfinished and is complete now                          DONE
    SEND     the answer does not say what the registry holds                      ASK
    SEND     the session is unusable, or not worth keeping                        LOST
    ASK      bytes are missing                                                    SEND
    ASK      only the closing PUT is missing                                      CLOSE
    ASK      the session is unknown, unusable, or not worth keeping               LOST
    ASK      the registry has the blob                                            DONE
    CLOSE    the blob is stored                                                   DONE
    CLOSE    the blob was unfinished and is complete now                          DONE
    CLOSE    a body of this size is refused; the empty session takes chunks       SEND
    CLOSE    a body of this size is refused; the session takes smaller chunks     ASK
    CLOSE    the registry refuses to close the session                            LOST
    LOST     the session is forgotten                                             OPEN

A step that fails raises, and leaves the state to the journal: without a session ``BlobUpload.run`` begins at
OPEN, with one at ASK, because what was under way may have arrived.
"""

from __future__ import annotations

from pusher.dataclass import dataclass
from pusher.registry.upload.session import Session


@dataclass(frozen=True)
class Open:
    """There is no session."""


@dataclass(frozen=True)
class Send:
    """The next chunk can be sent."""

    session: Session


@dataclass(frozen=True)
class Ask:
    """Only the registry knows what it holds."""

    session: Session
    accepted: bool = False
    """The chunk in flight was answered with 2xx: without a usable status it counts as acknowledged."""


@dataclass(frozen=True)
class Close:
    """The closing PUT comes next, with what the registry does not hold yet."""

    session: Session


@dataclass(frozen=True)
class Lost:
    """The session cannot be used any more, for ``reason``."""

    session: Session
    reason: str
    cut_off: bool = False
    """The registry said so of a session that was cut off inside a chunk."""
    fruitless: bool = True
    """It is a setback, and no decision of ours."""


@dataclass(frozen=True)
class Done:
    """The registry has the blob: ``exists``, ``mounted`` or ``uploaded``. Or, None, the size and digest of an
    unfinished blob are known now."""

    how: str | None


State = Open | Send | Ask | Close | Lost | Done
