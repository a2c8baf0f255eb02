"""Parse and compare platforms of an index: operating system, architecture, variant."""

from __future__ import annotations

import re
from typing import Any, Final

from pusher.dataclass import dataclass

_PART: Final = re.compile(r"[a-z0-9._-]+")
_ALIASES: Final = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_IMPLIED: Final = {"arm64": "v8", "arm": "v7"}
"""The variant that is meant where none is written (containerd/platforms ``database.go``)."""


@dataclass(frozen=True)
class Platform:
    """``os/architecture[/variant]``, in lower case."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``linux/arm64`` or ``linux/arm/v7``. Raises ValueError for other text."""
        parts = text.strip().lower().split("/")
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise ValueError(f"{text!r} is not a platform")
        return cls(parts[0], _ALIASES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")

    @classmethod
    def of_json(cls, data: Any) -> Platform | None:
        """Read the ``platform`` of an entry of an index or of a config; None if it is empty."""
        if not isinstance(data, dict):
            return None
        os, architecture, variant = (data.get(key) or "" for key in ("os", "architecture", "variant"))
        if not (isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str)):
            return None
        return cls(os, architecture, variant) if os or architecture else None

    def takes(self, other: Platform) -> bool:
        """Return whether ``other`` satisfies a request for this platform."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        if not self.variant:
            return other.variant in ("", _IMPLIED.get(self.architecture, ""))
        return self.variant == (other.variant or _IMPLIED.get(self.architecture, ""))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
