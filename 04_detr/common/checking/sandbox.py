"""Run a learner's code so that it can neither crash the check nor hold it up for ever.

The code runs in a second thread. When its time is up, Python raises an exception inside that
thread (`PyThreadState_SetAsyncExc`), which ends loops written in Python on every system, Windows
too. A call that waits inside a library cannot be ended this way: it is left behind, and the
message says so.
"""

import ctypes
import inspect
import linecache
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from common.checking.compare import describe, same

STOP_ATTEMPTS = 20  # a bare "except:" in the learner's code may swallow some of them
ATTEMPT_SECONDS = 0.05


class WrongAnswerError(ValueError):
    """The answer is wrong; the text says why."""


class BlankAnswerError(WrongAnswerError):
    """The answer has not been written yet."""


class TimeIsUpError(BaseException):
    """Raised inside the learner's code; no `except Exception` there catches it."""


@dataclass
class Attempt:
    """An answer under examination, and the seconds that its code may still take."""

    answer: Any
    seconds: float

    def __post_init__(self) -> None:
        """Start with all of the time."""
        self.seconds_left = self.seconds

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Call the answer with copies of the inputs, in their order; see `run`.

        Raises:
            WrongAnswerError: it is not a function of these arguments, raises an exception, takes
                too long, or changes its arguments.
            BlankAnswerError: it is blank.
        """
        check_signature(self.answer, list(inputs))
        return self.run(self.answer, inputs)

    def run(self, function: Callable, inputs: Mapping[str, Any]) -> Any:
        """Call any function of the learner with copies of the inputs, within the time left.

        Args:
            function: takes as many positional arguments as there are inputs.
            inputs: name and value of each argument; the names are for the messages.

        Returns:
            What the function returns; never None.

        Raises:
            WrongAnswerError, BlankAnswerError: see `call`.
        """
        given = deepcopy(dict(inputs))
        came = self.within_time(function, list(given.values()), inputs)
        if came is None:
            raise BlankAnswerError(
                "the function returns None: a blank is open, or a return missing"
            )
        if came is Ellipsis:
            raise BlankAnswerError("the function returns ..., the blank")
        for name, value in inputs.items():
            comparable = same(value, value, 0)
            if comparable and not same(given[name], value, 0):
                raise WrongAnswerError(
                    f"the function changes its argument {name} in place; "
                    "work on a copy, the caller still needs the original"
                )
        return came

    def within_time(self, function: Callable, arguments: list, inputs: Mapping[str, Any]) -> Any:
        """Run in a second thread; turn exceptions and endless loops into messages."""
        outcome: dict[str, Any] = {}

        def target() -> None:
            try:
                outcome["value"] = function(*arguments)
            except BaseException as error:  # SystemExit and the like are wrong answers as well
                outcome["error"] = error

        thread = threading.Thread(target=target, daemon=True)
        started = time.monotonic()
        try:
            thread.start()
            thread.join(self.seconds_left)
        finally:  # also when the reader interrupts the check
            stopped = stop(thread)
        self.seconds_left -= time.monotonic() - started
        if isinstance(outcome.get("error"), TimeIsUpError) or not outcome:
            raise WrongAnswerError(too_long(self.seconds, inputs, stopped))
        if "error" in outcome:
            raise crash(outcome["error"], function, inputs) from None
        return outcome["value"]


def stop(thread: threading.Thread) -> bool:
    """End a thread that still runs Python code, and tell whether it has ended."""
    for _ in range(STOP_ATTEMPTS):
        if not thread.is_alive():
            break
        identity = ctypes.c_ulong(thread.ident)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(TimeIsUpError))
        thread.join(ATTEMPT_SECONDS)
    return not thread.is_alive()


def too_long(seconds: float, inputs: Mapping[str, Any], stopped: bool) -> str:
    """The message for code without an end."""
    text = f"not done after {seconds:g} s: is there a loop without an end?\n{case_text(inputs)}"
    return text if stopped else f"{text}\n  It could not be stopped: restart the kernel."


def crash(error: BaseException, function: Callable, inputs: Mapping[str, Any]) -> WrongAnswerError:
    """The message for an exception: its type, its text, and the learner's line."""
    if isinstance(error, NotImplementedError):
        return BlankAnswerError("the blank is still open")
    text = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    return WrongAnswerError(
        f"your code raises {text}{own_line(error.__traceback__, function)}\n{case_text(inputs)}"
    )


def own_line(trace: TracebackType | None, function: Callable) -> str:
    """Name the deepest line that lies in the learner's own cells or file."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    own = code.co_filename if code else None
    for frame, number in reversed(list(traceback.walk_tb(trace))):
        name = frame.f_code.co_filename
        if name == own or "ipykernel_" in name or name.startswith("<ipython-input"):
            line = linecache.getline(name, number).strip()
            return f"\n  in line {number}" + (f": {line}" if line else "")
    return ""


def check_signature(answer: Any, names: list[str]) -> None:
    """Raise unless the answer can be called with these arguments, by position."""
    if answer is None or answer is Ellipsis:
        raise BlankAnswerError("the answer is still blank")
    if not callable(answer):
        kind = type(answer).__name__
        raise WrongAnswerError(f"the answer is of type {kind}; expected is a function")
    try:
        inspect.signature(answer).bind(*names)
    except TypeError as error:
        wanted = ", ".join(names)
        raise WrongAnswerError(f"the function must take ({wanted}): {error}") from None
    except ValueError:
        return  # a function of a library whose signature is not known


def case_text(inputs: Mapping[str, Any]) -> str:
    """Write the inputs of a case, a line each."""
    return "\n".join(f"  {name} = {describe(value)}" for name, value in inputs.items())
