"""Define the plan that a job stores of how a layer is cut into parts."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pusher.dataclass import dataclass
from pusher.sources.base import Json


@dataclass(frozen=True)
class Part:
    """A part of a split layer: digest and size of its tar."""

    diff_id: str
    size: int


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is cut. ``name``: the digest of its blob if the source has one, else its diff ID.

    ``size``: bytes of its tar. ``late``: what is appended to each part, compressed; None if it is large.
    """

    name: str
    diff_id: str
    size: int
    reserve: int
    parts: tuple[Part, ...]
    late: tuple[bytes, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "name": self.name,
            "diff_id": self.diff_id,
            "size": self.size,
            "reserve": self.reserve,
            "parts": [vars(part) for part in self.parts],
            "late": None if self.late is None else [base64.b64encode(data).decode() for data in self.late],
        }

    @classmethod
    def from_json(cls, data: Json) -> LayerPlan:
        """Parse what ``to_json`` returned."""
        late = data["late"]
        return cls(
            data["name"],
            data["diff_id"],
            data["size"],
            data["reserve"],
            tuple(Part(**part) for part in data["parts"]),
            None if late is None else tuple(map(binascii.a2b_base64, late)),
        )
