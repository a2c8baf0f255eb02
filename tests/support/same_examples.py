"""Property tests draw the same examples on every machine and in every order of the tests.

Others come with ``--hypothesis-profile=default --hypothesis-seed=N``.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

_PROFILE: Final = "same"


def load_profile() -> None:
    """Take chance, the clock and the order of the tests out of hypothesis.

    Call it before any test is imported: decorators read the profile.
    """
    settings.register_profile(
        _PROFILE, derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile(_PROFILE)
    # Hypothesis also draws the literals of every module of ours that is loaded at that moment. Which ones are
    # depends on the tests that ran before in the same process, and no setting turns it off. A version that
    # does it in another way fails support_tests/test_same_examples.py, and nothing else.
    draw_literals = getattr(providers, "_get_local_constants", None)
    if draw_literals is not None:
        no_literals = type(providers.GLOBAL_CONSTANTS)()
        vars(providers)["_get_local_constants"] = lambda: (
            no_literals if settings.get_current_profile_name() == _PROFILE else draw_literals()
        )
