"""The engine of the exercises: right, wrong, blank, crashing and endless answers."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from common.checking import check as exercise_checking
from common.checking.check import CheckResult, check, compare_function, compare_value, exercise
from common.checking.compare import describe, same, wrong_form
from common.checking.sandbox import Attempt


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two small exercises in an otherwise empty registry."""
    monkeypatch.setattr(exercise_checking, "EXERCISES", {})

    @exercise("99.1", "Double", seconds=0.5)
    def double(attempt: Attempt) -> None:
        sizes = (3, 1, 2, 0)
        cases = [{"values": torch.arange(1, n + 1).float(), "factor": 2} for n in sizes]
        compare_function(
            attempt,
            cases,
            lambda values, factor: values * factor,
            {"squared instead of doubled": lambda values, factor: values**factor},
        )

    @exercise("99.2", "A pair")
    def pair(attempt: Attempt) -> None:
        compare_value(attempt, (3, 0.25), {"the two are swapped": (0.25, 3)})

    yield


def endless(values: Tensor, factor: int) -> Tensor:
    while True:
        values = values + 0


def swallows_exceptions(values: Tensor, factor: int) -> Tensor:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def crashes(values: Tensor, factor: int) -> Tensor:
    return values[17]  # out of range


def leaves_python(values: Tensor, factor: int) -> Tensor:
    raise SystemExit(3)


def recurses(values: Tensor, factor: int) -> Tensor:
    return recurses(values, factor)


def is_blank(values: Tensor, factor: int) -> Tensor:
    raise NotImplementedError


def in_place(values: Tensor, factor: int) -> Tensor:
    result = values * factor
    values.zero_()
    return result


def right_until_two(values: Tensor, factor: int) -> Tensor:
    return values * factor if len(values) < 2 else values


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        (lambda values, factor: values * factor, "right", "Double"),
        (lambda values, factor: values**2, "wrong", "squared instead of doubled"),
        (right_until_two, "wrong", "values = [1.0, 2.0]\n  factor = 2\n  came     [1.0, 2.0]"),
        (None, "not yet", "still blank"),
        (..., "not yet", "still blank"),
        (is_blank, "not yet", "blank is still open"),
        (lambda values, factor: None, "not yet", "returns None"),
        (lambda values, factor: ..., "not yet", "the blank"),
        (3, "wrong", "of type int; expected is a function"),
        (lambda values: values, "wrong", r"must take (values, factor)"),
        (lambda values, factor: 2.0, "wrong", "is float; expected is Tensor of shape"),
        (lambda values, factor: "two", "wrong", "is str; expected is Tensor"),
        (lambda values, factor: (values * factor).numpy(), "wrong", "is ndarray of shape"),
        (lambda values, factor: (values * factor)[None], "wrong", "has shape (1, 0); expected"),
        (lambda values, factor: (values * factor).long(), "wrong", "dtype int64; expected is"),
        (in_place, "wrong", "changes its argument values in place"),
        (crashes, "wrong", "IndexError: index 17 is out of bounds"),
        (crashes, "wrong", "return values[17]  # out of range"),
        (leaves_python, "wrong", "raises SystemExit: 3"),
        (recurses, "wrong", "RecursionError"),
        (endless, "wrong", "a loop without an end"),
        (swallows_exceptions, "wrong", "a loop without an end"),
    ],
)
def test_verdicts(
    answer: object, verdict: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = check("99.1", answer)
    assert (result.verdict, result.passed, bool(result)) == (verdict, *[verdict == "right"] * 2)
    assert reason in result.reason
    assert capsys.readouterr().out == f"{result}\n"
    assert "Traceback" not in str(result)
    assert "exercise_checking" not in str(result)


@pytest.mark.parametrize("answer", [endless, swallows_exceptions])
def test_endless_code_is_ended(answer: Callable) -> None:
    before = threading.active_count()
    started = time.monotonic()
    assert not check("99.1", answer)
    assert time.monotonic() - started < 5
    assert threading.active_count() == before


def test_code_that_cannot_be_ended_is_left_behind() -> None:
    result = check("99.1", lambda values, factor: time.sleep(3))
    assert "could not be stopped: restart the kernel" in result.reason


def test_interrupted_check_ends_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = threading.Thread.join, []

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        check("99.1", endless)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        ((3, 0.25), "right", "A pair"),
        ([torch.tensor(3), np.float32(0.25)], "right", "A pair"),
        ((0.25, 3), "wrong", "the two are swapped"),
        ((3, 0.5), "wrong", "(3, 0.5) is not it"),
        ((3, ...), "not yet", "entry 2 of the answer is still blank"),
        (None, "not yet", "still blank"),
        ((3,), "wrong", "has 1 entries; expected are 2"),
        (3, "wrong", "is int; expected is a tuple of 2 entries"),
        (("3", 0.25), "wrong", "[0] is str; expected is int"),
        ((3, float("nan")), "wrong", "is not it"),
        (lambda: (3, 0.25), "wrong", "call it"),
        ((object(), 0.25), "wrong", "is object; expected is int"),
    ],
)
def test_values(answer: object, verdict: str, reason: str) -> None:
    result = check("99.2", answer)
    assert result.verdict == verdict
    assert reason in result.reason


def test_expected_value_is_not_shown() -> None:
    for answer in (0, (3, 0.5), (0, 0), (0.25, 3), [], "text", None):
        assert "(3, 0.25)" not in check("99.2", answer).reason


class Hostile:
    """An answer that raises wherever it is touched."""

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise RuntimeError("no array")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("exercise_id", ["99.1", "99.2"])
def test_hostile_answers_raise_nothing(exercise_id: str) -> None:
    assert check(exercise_id, Hostile()).verdict == "wrong"
    assert check(exercise_id, lambda values, factor: Hostile()).verdict == "wrong"


def test_unknown_id_lists_those_allowed() -> None:
    assert check("99.7", 1).reason == "no such exercise; there are 99.1, 99.2"
    assert "99.1, 99.2" in check(3, 1).reason


def test_taken_id() -> None:
    with pytest.raises(ValueError, match=r"99\.1 is registered twice"):
        exercise("99.1", "Again")


def test_judge_that_fails_is_a_message() -> None:
    @exercise("99.3", "Broken")
    def broken(attempt: Attempt) -> None:
        raise KeyError("gone")

    assert "cannot judge this answer (KeyError: 'gone')" in check("99.3", 1).reason


def test_result_is_shown_once() -> None:
    result = CheckResult("99.1", "wrong", "why")
    assert str(result) == "99.1 wrong: why"
    assert result._ipython_display_() is None  # so that a notebook does not repeat the message


def test_comparison() -> None:
    assert same({"a": [1, torch.tensor(2.0)]}, {"a": (1, 2)}, 0)
    assert not same({"a": 1}, {"b": 1}, 0)
    assert not same(torch.ones(2), torch.ones(1), 0)
    assert same(float("nan"), float("nan"), 0)
    assert same(torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5, 0)
    assert "keys ['a']; expected are ['b']" in wrong_form({"a": 1}, {"b": 1})
    assert "[1] has shape (2,)" in wrong_form((1, np.ones(2)), (1, np.ones(3)))
    assert "a text" in wrong_form(1, "yes")
    assert wrong_form(1, 1.5) == wrong_form(torch.ones(2), torch.zeros(2).double()) == ""


def test_long_values_are_cut() -> None:
    text = describe(torch.zeros(100, 3))
    assert text.startswith("Tensor of shape (100, 3), starts [[0.0")
    assert len(text) < 150
