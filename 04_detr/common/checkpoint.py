"""Checkpoints that let a killed run go on as if nothing had happened.

A checkpoint holds the model, the optimiser, the learning-rate schedule, the state of every random
generator and how far the run has come. It is written to a temporary file that then takes the
place of the old one in a single step, so that a reader sees the old checkpoint or the new one and
never half of either. Only tensors and plain values are stored: reading one runs no code from it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from common.files import replacing

FORMAT = 1
KEYS = ("format", "model", "states", "random", "progress", "settings")


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable or of another run."""


class HasState(Protocol):
    """An optimiser, a schedule, a gradient scaler: whatever can save and load its state."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...  # noqa: D102


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    states: Mapping[str, HasState] | None = None,
    progress: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint in one step and return its path; a crash leaves the old one as it was.

    Args:
        path: the file; its folder is made if needed.
        model: its state_dict is stored.
        states: optimiser, schedule and the like by name.
        progress: how far the run is (epoch, step, history ...): numbers, strings, lists, dicts.
        settings: what is needed to build the model again: numbers, strings, lists, dicts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "model": model.state_dict(),
        "states": {name: one.state_dict() for name, one in (states or {}).items()},
        "random": random_states(),
        "progress": dict(progress or {}),
        "settings": dict(settings or {}),
    }
    with replacing(path, durable=True) as file:
        torch.save(content, file)
    return path


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; give it to `restore`, or take `settings` and `model` of it.

    Raises:
        CheckpointError: no such file, not a checkpoint, or one of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load answers damaged files with errors of many classes
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of format {FORMAT}")
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}")
    return content


def restore(
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    states: Mapping[str, HasState] | None = None,
    random_too: bool = True,
) -> dict[str, Any]:
    """Put a loaded checkpoint back into its objects, and return its `progress`.

    Args:
        checkpoint: what `load_checkpoint` returned.
        model: of the same architecture.
        states: the same names as when it was saved.
        random_too: also set the random generators; do it last before training goes on.

    Raises:
        CheckpointError: the model's tensors or the names of the states differ.
    """
    load_weights(checkpoint, model)
    states = states or {}
    if set(states) != set(checkpoint["states"]):
        raise CheckpointError(
            f"the checkpoint has states of {sorted(checkpoint['states'])}, not {sorted(states)}"
        )
    for name, one in states.items():
        one.load_state_dict(checkpoint["states"][name])
    if random_too:
        set_random_states(checkpoint["random"])
    return dict(checkpoint["progress"])


def load_weights(checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """Copy the checkpoint's tensors into the model.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape; the first is named.
    """
    own, stored = model.state_dict(), checkpoint["model"]
    for name in [*own, *stored]:
        shapes = [tuple(d[name].shape) if name in d else "none" for d in (own, stored)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(f"{name}: the model has {shapes[0]}, the checkpoint {shapes[1]}")
    model.load_state_dict(stored)


def random_states() -> dict[str, Any]:
    """Collect the states of Python's, NumPy's and PyTorch's global random generators."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Set the global random generators to what `random_states` returned."""
    random.setstate(states["python"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
