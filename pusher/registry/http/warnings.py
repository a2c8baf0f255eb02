"""Report Warning headers of a registry (distribution-spec, "Warnings")."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Final

from pusher.registry.http.redaction import one_line

_WARNING: Final = r'(?:^|,)\s*299\s+-\s+"((?:[^"\\]|\\.)*+)("|\Z)'
_MAX_HEADER: Final = 4096
"""Bytes of all warnings of one answer."""
_MAX_WARNINGS: Final = 20
"""Different warnings of one registry that are reported, and of one answer."""


def read_warnings(headers: Mapping[str, str]) -> list[str]:
    """Return the texts of valid warnings, printable and each on one line."""
    raw = headers.get("Warning", "")[:_MAX_HEADER].encode("latin-1", errors="replace")
    texts = []
    for found in re.finditer(_WARNING, raw.decode("utf-8", errors="replace")):
        if found[2]:  # the quotes are closed
            texts.append(one_line(re.sub(r"\\(.)", r"\1", found[1])))
    return [text for text in dict.fromkeys(texts) if text][:_MAX_WARNINGS]


class Warnings:
    """Reports each warning of one registry once. Thread-safe."""

    def __init__(self, registry: str, report: Callable[[str], None]) -> None:
        self._registry = registry
        self._report = report
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def report_new(self, headers: Mapping[str, str]) -> None:
        """Report the warnings in the headers of an answer that are new."""
        for text in read_warnings(headers):
            with self._lock:
                new = text not in self._reported and len(self._reported) < _MAX_WARNINGS
                if new:
                    self._reported.add(text)
            if new:
                self._report(f"{self._registry} says: {text}")
