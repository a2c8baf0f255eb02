"""Decide what the registry's responses mean for an upload session, without I/O."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from pusher.dataclass import dataclass
from pusher.registry.answers import is_final, read_message
from pusher.registry.http.answer import Answer
from pusher.registry.intermediaries import is_chunk_accepted
from pusher.registry.upload.session import Session, explain_loss, is_cut_off

GATEWAY_TIMEOUTS: Final = frozenset({504, 524})
"""An intermediary timed out; the registry may still be processing the request."""
PAUSE: Final = GATEWAY_TIMEOUTS | {408, 429, 500, 502, 503, 520, 521, 522, 523}
"""Status codes after which the same request may succeed later (52x are Cloudflare's)."""


class ChunkAnswer(Enum):
    """The meaning of the response to a chunk."""

    ACCEPTED = auto()
    SILENT = auto()
    """2xx that acknowledges no byte."""
    FINAL = auto()
    """Nothing will be accepted."""
    TOO_LARGE = auto()
    LATER = auto()
    """The same chunk may be accepted later."""
    REFUSED = auto()


def judge_chunk(answer: Answer) -> ChunkAnswer:
    """Return the meaning of the response to a chunk."""
    if is_chunk_accepted(answer):
        return ChunkAnswer.ACCEPTED
    if answer.ok:
        return ChunkAnswer.SILENT
    if is_final(answer):
        return ChunkAnswer.FINAL
    if answer.status == 413:
        return ChunkAnswer.TOO_LARGE
    return ChunkAnswer.LATER if answer.status in PAUSE or answer.status == 403 else ChunkAnswer.REFUSED


@dataclass(frozen=True)
class Holds:
    """The registry holds ``offset`` bytes, by its own report or by our count."""

    offset: int
    reported: bool = False
    """The registry reported it; its Location is the current one."""
    in_doubt: bool = False
    """The registry cannot be asked: resend the chunk in flight unchanged; its response shows the offset."""


@dataclass(frozen=True)
class Unusable:
    """The session cannot be continued."""

    reason: str
    cut_off: bool = False
    """The registry holds part of a chunk and cannot continue from there."""


def judge_unasked(session: Session, total: int) -> Holds | Unusable:
    """Return the offset of a session of a blob of ``total`` bytes at a registry without status requests: our
    own count, unless a chunk is in flight."""
    if session.in_flight == 0 or session.profile.resends:
        return Holds(session.offset)
    if session.is_sent_whole(total):
        return Unusable("a blob goes to this registry in one request and cannot be resumed")
    return Unusable(explain_loss(None))


def judge_status(
    session: Session, answer: Answer | None, *, accepted: bool = False, may_repeat: bool = True
) -> Holds | Unusable:
    """Return the offset of a session from the response to a status request.

    ``answer`` None: the login may not ask. ``accepted``: the chunk in flight was answered with 2xx.
    ``may_repeat``: it has not been sent again without effect.
    """
    after_chunk = session.offset + session.in_flight
    offset = session.offset_in(answer) if answer is not None and answer.ok else None
    if offset is not None:
        if accepted and offset <= max(session.offset, session.in_flight):
            offset = after_chunk  # a Range that does not grow or is the chunk's own
        return Holds(offset, reported=True) if session.may_hold(offset) else _impossible(session, offset)
    if accepted:
        return Holds(after_chunk)
    if session.in_flight == 0 and not _is_unknown(answer):
        return Holds(session.offset)
    if may_repeat and _can_repeat(session, answer):
        return Holds(session.offset, in_doubt=True)
    return Unusable(explain_loss(answer), cut_off=is_cut_off(answer))


def _is_unknown(answer: Answer | None) -> bool:
    """Return whether the session is unknown to the registry; a missing route is a 404, too."""
    return answer is not None and answer.status == 404 and "UNSUPPORTED" not in read_message(answer).codes


def _can_repeat(session: Session, answer: Answer | None) -> bool:
    refused = answer is None or answer.status == 403  # a login that may not pull, or a wrong one
    return refused and (session.offset > 0 or not session.profile.appends_at_start)


def _impossible(session: Session, offset: int) -> Unusable:
    return Unusable(
        f"the registry says it holds {offset} bytes, which cannot be "
        f"({session.offset} acknowledged, {session.in_flight} in flight)"
    )
