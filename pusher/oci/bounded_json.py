"""Parse foreign JSON within limits: manifests, indexes, configs, the lists in an archive."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

MAX_BYTES: Final = 16 << 20
MAX_VALUES: Final = 250_000
"""Objects, lists, strings and numbers, keys included: they take some 60 MB of memory at most."""
MAX_DEPTH: Final = 100
_MAX_DIGITS: Final = 1000
"""Of an integer; its value is checked where it is stored or sent."""
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]|[^\s"\[\]{},:]++', re.DOTALL)
_OPENING: Final = frozenset((ord("["), ord("{")))
_CLOSING: Final = frozenset((ord("]"), ord("}")))
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def load_json(raw: bytes, *, most_values: int = MAX_VALUES) -> Any:
    """Parse ``raw``. Raises ValueError with a plain reason if it is not JSON or exceeds the bounds.

    As in Go's encoding/json, which Docker and registries use, what is not UTF-8 or is half of a surrogate
    pair becomes U+FFFD, so that every string can be encoded; NaN and infinite numbers are refused.
    """
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it has {len(raw)} bytes, which is more than {MAX_BYTES}")
    _check_shape(raw, most_values)
    text = raw.decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError("it is not JSON") from error
    except RecursionError as error:  # the call stack was deep already
        raise ValueError("it is nested too deeply") from error
    return _without_surrogates(value) if _SURROGATE.search(text) else value


def _check_shape(raw: bytes, most_values: int) -> None:
    """Count values and depth without parsing; a value takes at least two bytes, with its comma."""
    if len(raw) <= 2 * most_values and raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    values = depth = 0
    for token in _TOKENS.finditer(raw):
        first = raw[token.start()]
        if first in _CLOSING:
            depth -= 1
            continue
        values += 1
        depth += first in _OPENING
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if values > most_values:
            raise ValueError(f"it holds more than {most_values} values")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it holds an integer of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("it holds a number that is too large")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it is not JSON: it holds {name}")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
