"""Drawn sequences of what workers do to one upload, against a model of it."""

from __future__ import annotations

from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher.errors import LeaseLost
from pusher.store.records import UploadRecord, UploadState
from pusher.store.store import Store
from tests.support.databases import FakeClock, digest

OWNERS = ("a", "b")
STEPS = ("acquire", "opened", "intend", "acknowledged", "closing", "present", "lost", "release", "sleep")
_registries = (f"registry{number}.example.com" for number in count())

steps = st.lists(st.tuples(st.sampled_from(OWNERS), st.sampled_from(STEPS), st.integers(1, 50)), max_size=25)


class Model:
    """What one upload's row must be."""

    def __init__(self) -> None:
        self.state = UploadState.IDLE
        self.offset = self.in_flight = 0
        self.holder: str | None = None
        self.until = 0.0

    def reset(self, state: UploadState) -> None:
        self.state, self.offset, self.in_flight = state, 0, 0

    def allows(self, step: str) -> bool:
        if step in ("intend", "acknowledged", "closing"):
            return self.state in (UploadState.OPEN, UploadState.CLOSING)
        return True

    def apply(self, step: str, number: int) -> None:
        match step:
            case "opened":
                self.reset(UploadState.OPEN)
            case "intend":
                self.in_flight = number
            case "acknowledged":
                self.offset, self.in_flight = self.offset + number, 0
                self.state = UploadState.OPEN
            case "closing":
                self.state, self.in_flight = UploadState.CLOSING, 0
            case "present":
                self.reset(UploadState.PRESENT)
                self.holder = None
            case "lost":
                self.reset(UploadState.IDLE)
            case "release":
                self.holder = None


def call(store: Store, u: UploadRecord, step: str, number: int) -> UploadRecord:
    uploads = store.uploads
    match step:
        case "opened":
            return uploads.record_session(
                u, location="http://r/0", chunk_size=number, min_chunk=None, max_chunk=None, profile=None
            )
        case "intend":
            return uploads.record_chunk(u, number)
        case "acknowledged":
            return uploads.record_offset(u, location="http://r/1", offset=u.offset + number)
        case "closing":
            return uploads.record_closing(u)
        case "present":
            return uploads.record_present(u)
        case "lost":
            return uploads.record_loss(u)
    return uploads.release(u)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=steps)
def test_an_upload_follows_its_model(
    store: Store, clock: FakeClock, drawn: list[tuple[str, str, int]]
) -> None:
    registry, model, now, tokens = next(_registries), Model(), 0.0, [0]
    records: dict[str, UploadRecord] = {}
    for owner, step, number in drawn:
        if step == "sleep":
            now += number
            clock.advance(number)
        elif step == "acquire":
            free = model.holder in (None, owner) or model.until <= now
            expired = [] if model.holder in (None, owner) else [model.holder]
            got = store.uploads.acquire(
                registry, "r", digest("a"), owner=owner, lease=30, expired_owners=expired
            )
            assert (got is not None) == free
            if got is not None:
                assert got.lease_token > tokens[-1], "a token is never given twice"
                tokens.append(got.lease_token)
                records[owner], model.holder, model.until = got, owner, now + 30
        elif owner in records:
            mine = model.holder == owner and records[owner].lease_token == tokens[-1]
            try:
                records[owner] = call(store, records[owner], step, number)
                assert mine
                assert model.allows(step)
                model.apply(step, number)
            except LeaseLost:
                assert not (mine and model.allows(step))
                continue
        if model.holder in records and model.holder == owner:
            seen = records[owner]
            assert (seen.state, seen.offset, seen.in_flight) == (model.state, model.offset, model.in_flight)
    assert store.uploads.holders(registry, digest("a")) == (["r"] if model.state == "present" else [])
