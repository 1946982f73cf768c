"""Stored comparisons: several ways of training, each with several seeds, resumable.

A notebook trains once. What needs many trainings is made by `python compare.py NAME` and stored as
`results/NAME.json`, with the seeds, the machine and the versions.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from common.command import write_json


def run_comparison(
    path: Path,
    question: str,
    arms: Mapping[str, Callable[[int], dict[str, Any]]],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Train each way with each seed that the file lacks, and write the file after each training.

    Args:
        path: results/NAME.json; what stands there already is kept.
        question: what is compared, for a reader of the file.
        arms: by name what trains with a seed, and returns plain values.
        seeds: numbers.

    Returns:
        The file's content: "question", "machine", "versions", and "runs", each with its "arm",
        its "seed" and what the arm has returned.
    """
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for arm, train in arms.items():
            if any((one["arm"], one["seed"]) == (arm, seed) for one in runs):
                continue
            print(f"{path.stem}: {arm}, seed {seed}", flush=True)
            runs.append({"arm": arm, "seed": seed, **train(seed)})
            content = {"question": question, "machine": machine(), "versions": versions()}
            write_json(path, {**content, "runs": runs}, indent=1)
    return json.loads(path.read_text(encoding="utf-8"))


def read_comparison(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of a stored comparison by the name of their arm, in the order of the file."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in content["runs"]:
        runs.setdefault(one["arm"], []).append(one)
    return runs


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean and, of several values, the lowest and the highest: "0.61 (0.59 to 0.62)"."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def machine() -> str:
    """Describe the machine in a few words."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, {device}"


def versions() -> dict[str, str]:
    """Return the releases that a result may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
