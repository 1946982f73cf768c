"""The engine of `check(id, answer)`: right, or wrong and why.

A lesson's `exercises/checks.py` registers a judge for each exercise. A function is tried on hidden
cases from small to large against an oracle, so that the case in the message is the smallest one
that fails. If all its outputs are those of a known wrong way, the message gives the reason. A
number is compared with a computed one, which is never shown.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.checking.compare import SEQUENCES, describe, same, wrong_form
from common.checking.sandbox import Attempt, BlankAnswerError, WrongAnswerError, case_text

Judge = Callable[[Attempt], None]
Inputs = Mapping[str, Any]  # name and value of each argument, in their order

SECONDS = 5.0  # for all calls of the learner's code together


@dataclass(frozen=True)
class Exercise:
    """An exercise that can be checked; its judge raises `WrongAnswerError`."""

    exercise_id: str
    title: str
    judge: Judge
    seconds: float


@dataclass(frozen=True)
class CheckResult:
    """What came of a check: `verdict` is "right", "wrong" or "not yet"; `reason` says why."""

    exercise_id: str
    verdict: str
    reason: str = ""

    @property
    def passed(self) -> bool:
        """True if the answer is right."""
        return self.verdict == "right"

    def __bool__(self) -> bool:
        """The same as `passed`."""
        return self.passed

    def __str__(self) -> str:
        """The message that `check` prints."""
        return f"{self.exercise_id} {self.verdict}" + (f": {self.reason}" if self.reason else "")

    def _ipython_display_(self) -> None:
        """Show nothing below a cell: the message has been printed already."""


EXERCISES: dict[str, Exercise] = {}


def exercise(exercise_id: str, title: str, seconds: float = SECONDS) -> Callable[[Judge], Judge]:
    """Register the decorated judge.

    Args:
        exercise_id: such as "00.3".
        title: as in the notebook.
        seconds: time for all calls of the learner's code together.

    Raises:
        ValueError: the id is taken.
    """
    if exercise_id in EXERCISES:
        raise ValueError(f"exercise {exercise_id} is registered twice")

    def register(judge: Judge) -> Judge:
        EXERCISES[exercise_id] = Exercise(exercise_id, title, judge, seconds)
        return judge

    return register


def check(exercise_id: str, answer: Any) -> CheckResult:
    """Say whether the answer to an exercise is right, and if not, why.

    Args:
        exercise_id: such as "00.3".
        answer: a function, a number, ... as the exercise says.

    Returns:
        The result, whose message has been printed. No answer makes this function raise.
    """
    result = examine(exercise_id, answer)
    print(result)
    return result


def examine(exercise_id: str, answer: Any) -> CheckResult:
    """Check without printing; see `check`."""
    if exercise_id not in EXERCISES:
        allowed = ", ".join(EXERCISES)
        return CheckResult(str(exercise_id), "wrong", f"no such exercise; there are {allowed}")
    found = EXERCISES[exercise_id]
    try:
        found.judge(Attempt(answer, found.seconds))
    except BlankAnswerError as error:
        return CheckResult(exercise_id, "not yet", str(error))
    except WrongAnswerError as error:
        return CheckResult(exercise_id, "wrong", str(error))
    except Exception as error:  # an answer of a kind that no judge foresaw
        text = f"the check cannot judge this answer ({type(error).__name__}: {error})"
        return CheckResult(exercise_id, "wrong", text)
    return CheckResult(exercise_id, "right", found.title)


def compare_function(
    attempt: Attempt,
    cases: Iterable[Inputs],
    oracle: Callable,
    diagnoses: Mapping[str, Callable] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Try the answer on all cases, from small to large, against the oracle.

    Args:
        attempt: holds the answer, a function.
        cases: hidden inputs; of equally large ones the earlier comes first.
        oracle: takes the inputs by position and returns what is right.
        diagnoses: reason and function of each known wrong way. A reason is given when the answer
            equals that way wherever the answer is wrong.
        tolerance: see `same`.

    Raises:
        WrongAnswerError: the answer is wrong. BlankAnswerError: it is blank.
    """
    suspects, failure = dict(diagnoses or {}), ""
    for inputs in sorted(cases, key=size):
        expected = oracle(*deepcopy(list(inputs.values())))
        try:
            came = attempt.call(inputs)
        except WrongAnswerError:
            if failure:
                break  # the smaller case comes first
            raise
        if same(came, expected, tolerance) and not wrong_form(came, expected):
            continue
        suspects = {
            reason: way
            for reason, way in suspects.items()
            if same(came, outcome(way, inputs), tolerance)
        }
        failure = failure or failure_text(inputs, came, expected)
    if failure:
        reason = next(iter(suspects), "")
        raise WrongAnswerError(f"{reason}\n{failure}" if reason else failure)


def failure_text(inputs: Inputs, came: Any, expected: Any) -> str:
    """Describe the smallest case that fails."""
    form = wrong_form(came, expected)
    head = f"{form}, in this case:" if form else "the smallest case that fails:"
    numbers = f"  came     {describe(came)}\n  expected {describe(expected)}"
    return f"{head}\n{case_text(inputs)}\n{numbers}"


def outcome(way: Callable, inputs: Inputs) -> Any:
    """What a known wrong way makes of the inputs; None where it fails."""
    try:
        return way(*deepcopy(list(inputs.values())))
    except Exception:  # wrong ways may well fail
        return None


def size(inputs: Inputs) -> int:
    """Count the numbers in a case."""
    return sum(map(count_numbers, inputs.values()))


def count_numbers(value: Any) -> int:
    """Count the numbers in a value, however it is nested."""
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, Mapping):
        return sum(map(count_numbers, value.values()))
    return sum(map(count_numbers, value)) if isinstance(value, SEQUENCES) else 1


def compare_value(
    attempt: Attempt,
    expected: Any,
    diagnoses: Mapping[str, Any] | None = None,
    tolerance: float = 1e-3,
) -> None:
    """Compare an answer that is a value with the right one, without showing that.

    Args:
        attempt: holds the answer.
        expected: computed by the lesson's own code; a number, text, tuple, ...
        diagnoses: reason and value of each known wrong way; the first that fits is given.
        tolerance: see `same`.

    Raises:
        WrongAnswerError: the answer is wrong. BlankAnswerError: it is blank.
    """
    came = attempt.answer
    if is_blank(came):
        raise BlankAnswerError("the answer is still blank")
    if isinstance(came, SEQUENCES) and any(map(is_blank, came)):
        place = next(i for i, entry in enumerate(came) if is_blank(entry))
        raise BlankAnswerError(f"entry {place + 1} of the answer is still blank")
    if callable(came):
        raise WrongAnswerError("the answer is a function; expected is a value: call it")
    if same(came, expected, tolerance) and not wrong_form(came, expected):
        return
    for reason, value in (diagnoses or {}).items():
        if same(came, value, tolerance):
            raise WrongAnswerError(reason)
    raise WrongAnswerError(wrong_form(came, expected) or f"{describe(came)} is not it")


def is_blank(value: Any) -> bool:
    """Tell whether a value is one that stands for "not filled in"."""
    return value is None or value is Ellipsis
