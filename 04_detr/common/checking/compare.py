"""Compare what came with what was expected, and describe both in a few words.

Values are numbers, texts, tensors, arrays, and tuples, lists or dicts of these.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

LONGEST_TEXT = 240  # characters of a value that are shown in full
SEQUENCES = (list, tuple)


def as_array(value: Any) -> np.ndarray:
    """Return a number, tensor or array as a NumPy array; float16 and bfloat16 become float32.

    Raises:
        TypeError, ValueError: the value is something else.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (
            value.float() if value.is_floating_point() and value.itemsize < 4 else value
        ).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{type(value).__name__} is not numbers")
    return array


def same(came: Any, expected: Any, tolerance: float) -> bool:
    """Tell whether two values agree: same structure, same shapes, numbers within the tolerance.

    Args:
        came: anything.
        expected: numbers, texts, tensors, arrays; tuples, lists and dicts of them.
        tolerance: absolute, and relative to the expected number; NaN equals NaN.
    """
    if came is None or expected is None:
        return came is expected
    if isinstance(expected, Mapping):
        return (
            isinstance(came, Mapping)
            and came.keys() == expected.keys()
            and all(same(came[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, SEQUENCES) or isinstance(came, SEQUENCES):
        return (
            isinstance(expected, SEQUENCES)
            and isinstance(came, SEQUENCES)
            and len(came) == len(expected)
            and all(same(a, b, tolerance) for a, b in zip(came, expected, strict=True))
        )
    if isinstance(came, str) or isinstance(expected, str):
        return isinstance(came, str) and isinstance(expected, str) and came == expected
    return same_numbers(came, expected, tolerance)


def same_numbers(came: Any, expected: Any, tolerance: float) -> bool:
    """Tell whether two numbers, tensors or arrays have one shape and agree in all numbers."""
    try:
        a, b = as_array(came), as_array(expected)
        return a.shape == b.shape and bool(
            np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        )
    except (TypeError, ValueError, RuntimeError):
        return False


def wrong_form(came: Any, expected: Any, name: str = "the answer") -> str:
    """Say what is wrong with the type, length, shape or dtype; "" when only numbers can differ."""
    if isinstance(expected, Mapping):
        return wrong_mapping(came, expected, name)
    if isinstance(expected, SEQUENCES):
        return wrong_sequence(came, expected, name)
    if isinstance(expected, str):
        return "" if isinstance(came, str) else f"{name} is {kind(came)}; expected is a text"
    for wanted in (torch.Tensor, np.ndarray):
        if isinstance(expected, wanted) and not isinstance(came, wanted):
            return f"{name} is {kind(came)}; expected is {kind(expected)}"
    try:
        a, b = as_array(came), as_array(expected)
    except (TypeError, ValueError, RuntimeError):
        return f"{name} is {kind(came)}; expected is {kind(expected)}"
    if a.shape != b.shape:
        return f"{name} has shape {a.shape}; expected is {b.shape}"
    if isinstance(expected, torch.Tensor | np.ndarray) and number_kind(a) != number_kind(b):
        return f"{name} has dtype {a.dtype}; expected is {b.dtype}"
    return ""


def wrong_mapping(came: Any, expected: Mapping, name: str) -> str:
    """See `wrong_form`, for dicts."""
    if not isinstance(came, Mapping):
        return f"{name} is {kind(came)}; expected is a dict with {list(expected)}"
    if came.keys() != expected.keys():
        return f"{name} has the keys {list(came)}; expected are {list(expected)}"
    found = (wrong_form(came[key], expected[key], f"{name}[{key!r}]") for key in expected)
    return next(filter(None, found), "")


def wrong_sequence(came: Any, expected: list | tuple, name: str) -> str:
    """See `wrong_form`, for lists and tuples."""
    if not isinstance(came, SEQUENCES):
        return f"{name} is {kind(came)}; expected is a {kind(expected)}"
    if len(came) != len(expected):
        return f"{name} has {len(came)} entries; expected are {len(expected)}"
    pairs = enumerate(zip(came, expected, strict=True))
    return next(filter(None, (wrong_form(a, b, f"{name}[{i}]") for i, (a, b) in pairs)), "")


def number_kind(array: np.ndarray) -> str:
    """Return "bool", "whole" or "real"."""
    return {"b": "bool", "i": "whole", "u": "whole"}.get(array.dtype.kind, "real")


def kind(value: Any) -> str:
    """Name a value's type and form, such as "Tensor of shape (2, 4)"."""
    name = type(value).__name__
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{name} of shape {tuple(value.shape)}"
    return f"{name} of {len(value)} entries" if isinstance(value, SEQUENCES) else name


def describe(value: Any) -> str:
    """Write a value in one line: its numbers, or its form where they are too many."""
    try:
        text = repr(rounded(value))
    except Exception:  # a learner's own type may refuse to be shown
        return kind(value)
    return text if len(text) <= LONGEST_TEXT else f"{kind(value)}, starts {text[:80]} ..."


def rounded(value: Any) -> Any:
    """Return tensors and arrays as nested lists, and all real numbers with six digits."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return rounded(as_array(value).tolist())
    if isinstance(value, SEQUENCES):
        return type(value)(map(rounded, value)) if type(value) in SEQUENCES else value
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
