"""The examples of property tests do not depend on what the process has loaded."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.internal.conjecture.providers import HypothesisProvider

import pusher.config.settings  # noqa: F401 - a module with literals


def test_literals_of_loaded_modules_are_drawn_in_other_profiles_only() -> None:
    name = settings.get_current_profile_name()
    try:
        settings.load_profile("same")
        assert len(HypothesisProvider(None)._local_constants) == 0
        settings.load_profile("default")
        assert len(HypothesisProvider(None)._local_constants) > 0
    finally:
        settings.load_profile(name)
