"""Pins of sources as a job keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pusher.sources.base import EVERYTHING, Pin
from pusher.sources.pins import DirPin, pin_from_json

P = TypeVar("P", bound=Pin)

ANY_PIN = DirPin(Path("/an/image"), "sha256:" + "0" * 64, EVERYTHING)


def stored(pin: Pin) -> Pin:
    """Return the pin as a job gives it back."""
    return pin_from_json(json.loads(json.dumps(pin.to_json())))


def stored_as(kind: type[P], pin: Pin) -> P:
    """Return the same, which is of a kind."""
    again = stored(pin)
    assert isinstance(again, kind)
    return again
