"""List environment variables of pusher that are not settings, and find unknown ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pusher.config.settings import OPTIONS

OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "PUSHER_CONFIG": "the path of pusher.toml",
    "PUSHER_DEBUG": "1: as --debug",
    "PUSHER_LOG_JSON": "1: as --log-json",
    "PUSHER_VERBOSE": "1 or 2: as -v or -vv",
}
"""What is needed before settings are read, and what it is for."""
_TESTS: Final = "PUSHER_TEST_"
"""The prefix of variables of pusher's tests."""


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the unknown ``PUSHER_*`` variables, each with the most similar known one or ""."""
    known = [*(variable for option in OPTIONS for variable in option.variables), *OTHER_VARIABLES]
    strange = [
        name for name in environ if name.startswith("PUSHER_") and name not in known and _TESTS not in name
    ]
    if not strange:
        return {}
    import difflib

    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in strange}
    return {name: "".join(matches) for name, matches in sorted(near.items())}
