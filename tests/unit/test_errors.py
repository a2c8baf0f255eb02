"""The error classes as a whole: codes, exit codes, what trying again is worth."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pytest

from pusher import errors
from pusher.errors import EngineNotRunning, ExitCode, PusherError, Retry, bug
from pusher.errors.catalogue import AGAIN, catalogue, error_as_json


def _all(base: type[PusherError] = PusherError) -> Iterator[type[PusherError]]:
    yield base
    for sub in base.__subclasses__():
        yield from _all(sub)


CLASSES = sorted(set(_all()), key=lambda cls: cls.__name__)


ENTRIES = [cls for cls in CLASSES if "code" in vars(cls)]


def test_codes_are_unique_and_stable_in_form() -> None:
    codes = [cls.code for cls in ENTRIES]
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
    if cls.retry is not Retry.NEVER and cls is not EngineNotRunning:  # a job waits for it, a command does not
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
        "HANGUP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_control_flow_is_no_error_of_the_user() -> None:
    assert not issubclass(errors.Stopped, PusherError)
    assert not issubclass(errors.LeaseLost, PusherError)


# --- the catalogue ------------------------------------------------------------------------------------------


def test_every_class_with_a_code_is_in_the_catalogue_and_in_the_package() -> None:
    assert list(catalogue()) == [entry.code for entry in catalogue().values()]
    assert set(catalogue()) == {cls.code for cls in ENTRIES}
    assert {cls.__name__ for cls in CLASSES} <= set(errors.__all__)


@pytest.mark.parametrize("cls", ENTRIES, ids=lambda cls: cls.__name__)
def test_every_entry_reads_well(cls: type[PusherError]) -> None:
    entry = catalogue()[cls.code]
    assert "advice" in vars(cls), "each says itself what to do"
    assert re.fullmatch(r"[A-Z][^`\n|]*[^.]\.", entry.meaning)
    assert re.fullmatch(r"[a-z][^\n|]*[^.\s]", entry.advice)
    assert len(entry.meaning) <= 110
    assert len(entry.advice) <= 110
    assert (entry.exit_code, entry.retry) == (cls.exit_code, cls.retry)


def test_every_worth_of_trying_again_has_words() -> None:
    assert set(AGAIN) == set(Retry)


@pytest.mark.parametrize("cls", ENTRIES, ids=lambda cls: cls.__name__)
def test_an_error_without_a_hint_gives_the_advice_of_its_class(cls: type[PusherError]) -> None:
    assert cls("what happened").hint == cls.advice
    assert cls("what happened", hint="the exact command").hint == "the exact command"
    assert pickle.loads(pickle.dumps(cls("what happened"))).hint == cls.advice


def test_an_error_for_programs() -> None:
    assert error_as_json("registry-busy", "it is busy", "wait") == {
        "code": "registry-busy",
        "message": "it is busy",
        "hint": "wait",
        "exit_code": 5,
        "retry": "backoff",
    }


def test_a_code_of_a_newer_pusher_is_passed_on() -> None:
    told = error_as_json("moon-eclipsed", "it is dark", "wait")
    assert (told["code"], told["exit_code"], told["retry"]) == ("moon-eclipsed", 1, "never")


# --- bugs ---------------------------------------------------------------------------------------------------


def test_a_bug_is_told_by_its_place_and_quotes_nothing() -> None:
    try:
        catalogue()[["password=s3cr3t"]]  # type: ignore[index]
    except TypeError as error:
        told = bug(error)
    assert told.message == "this is a bug in pusher: TypeError"
    assert "--debug" in told.hint


def test_a_bug_inside_pusher_names_file_and_line() -> None:
    try:
        error_as_json([], "", "")  # type: ignore[arg-type]
    except TypeError as error:
        told = bug(error)
    assert re.fullmatch(
        r"this is a bug in pusher: TypeError in pusher/errors/catalogue\.py, line \d+", told.message
    )
