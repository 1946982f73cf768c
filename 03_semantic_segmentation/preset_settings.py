"""Settings of a run: chosen from presets by the machine, changed, and read from a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from checkpoint import CheckpointError, load_checkpoint

S = TypeVar("S")


def choose_preset() -> str:
    """Return "full" on a machine with a CUDA GPU, and "laptop" elsewhere."""
    return "full" if torch.cuda.is_available() else "laptop"


def change_preset(presets: Mapping[str, S], preset: str, changes: Mapping[str, Any]) -> S:
    """Return the settings of one of the presets, with changes.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    if preset not in presets:
        raise ValueError(f"preset is {preset!r}; allowed are {', '.join(presets)}")
    return dataclasses.replace(presets[preset], **changes)


def read_run(path: str | Path, settings_class: type[S]) -> tuple[dict, tuple[str, ...], S]:
    """Read a run's checkpoint and return it with the class names and the settings inside.

    Raises:
        CheckpointError: see `checkpoint.load_checkpoint`; or the settings are of other programs.
    """
    checkpoint = load_checkpoint(path)
    stored = dict(checkpoint["settings"])
    try:
        class_names = tuple(stored.pop("class_names"))
        return checkpoint, class_names, settings_class(**stored)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is a checkpoint of another program: {error}") from error
