"""Settings of a run: chosen from presets by the machine, changed, and read from a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from common.checkpoint import CheckpointError, load_checkpoint
from common.smoke import SMOKE, SMOKE_SETTINGS

S = TypeVar("S")


def choose_preset() -> str:
    """Return "full" on a machine with a CUDA GPU, and "laptop" elsewhere and for a smoke run."""
    return "full" if torch.cuda.is_available() and not SMOKE else "laptop"


def change_preset(presets: Mapping[str, S], preset: str, changes: Mapping[str, Any]) -> S:
    """Return the settings of one of the presets, with changes; `common/smoke.py` has the last word.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    if preset not in presets:
        raise ValueError(f"preset is {preset!r}; allowed are {', '.join(presets)}")
    return dataclasses.replace(presets[preset], **{**changes, **SMOKE_SETTINGS})


def check_choices(settings: Any, choices: Mapping[str, Iterable[str]]) -> None:
    """Raise a ValueError unless each named setting is one of its choices."""
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


def check_numbers(
    settings: Any,
    whole: Iterable[str] = (),
    positive: Iterable[str] = (),
    shares: Iterable[str] = (),
) -> None:
    """Raise a ValueError unless the named settings lie in their ranges.

    Args:
        settings: an object with the settings as attributes.
        whole: names of those that are at least 1.
        positive: names of those above 0.
        shares: names of those above 0 and up to 1.
    """
    ranges = [(name, getattr(settings, name) >= 1, "at least 1 is allowed") for name in whole]
    ranges += [(name, getattr(settings, name) > 0, "it must be above 0") for name in positive]
    ranges += [
        (name, 0 < getattr(settings, name) <= 1, "above 0 and up to 1 is allowed")
        for name in shares
    ]
    for name, inside, allowed in ranges:
        if not inside:
            raise ValueError(f"{name} is {getattr(settings, name)}; {allowed}")


def read_run(path: str | Path, settings_class: type[S]) -> tuple[dict, tuple[str, ...], S]:
    """Read a run's checkpoint and return it with the class names and the settings inside.

    Raises:
        CheckpointError: see `common.checkpoint.load_checkpoint`; or the settings are of other
            programs.
    """
    checkpoint = load_checkpoint(path)
    stored = dict(checkpoint["settings"])
    try:
        class_names = tuple(stored.pop("class_names"))
        return checkpoint, class_names, settings_class(**stored)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is a checkpoint of another program: {error}") from error
