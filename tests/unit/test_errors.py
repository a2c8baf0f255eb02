"""The error classes as a whole: codes, exit codes, what trying again is worth."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pytest

from pusher import errors
from pusher.errors import ExitCode, PusherError, Retry


def _all(base: type[PusherError] = PusherError) -> Iterator[type[PusherError]]:
    yield base
    for sub in base.__subclasses__():
        yield from _all(sub)


CLASSES = sorted(set(_all()), key=lambda cls: cls.__name__)


def test_codes_are_unique_and_stable_in_form() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_survives_a_process_boundary(cls: type[PusherError]) -> None:
    error = cls("what happened", hint="what to do", retry_after=2.5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (again.message, again.hint, again.retry_after) == ("what happened", "what to do", 2.5)
    assert str(again) == "what happened"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_exit_codes_agree_with_retrying(cls: type[PusherError]) -> None:
    if cls.exit_code is ExitCode.UNFINISHED:
        assert cls.retry is not Retry.NEVER
    if cls.retry is not Retry.NEVER:
        assert cls.exit_code in (ExitCode.UNFINISHED, ExitCode.STORE)


def test_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "FAILED": 3,
        "AUTH": 4,
        "UNFINISHED": 5,
        "REFUSED": 6,
        "SOURCE": 7,
        "STORE": 8,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_control_flow_is_no_error_of_the_user() -> None:
    assert not issubclass(errors.Stopped, PusherError)
    assert not issubclass(errors.LeaseLost, PusherError)
