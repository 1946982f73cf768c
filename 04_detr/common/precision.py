"""The number format in which a network computes: float32, float16 or bfloat16."""

from __future__ import annotations

import contextlib

import torch

PRECISIONS = ("auto", "fp32", "fp16", "bf16")


def choose_precision(asked: str, device: torch.device) -> str:
    """Return fp32, fp16 or bf16; `auto` is fp16 on a CUDA GPU and fp32 elsewhere.

    Raises:
        ValueError: another word, or fp16 on a CPU.
    """
    if asked not in PRECISIONS:
        raise ValueError(f"precision is {asked!r}; allowed are {', '.join(PRECISIONS)}")
    if asked == "fp16" and device.type != "cuda":
        raise ValueError("precision fp16 needs a CUDA GPU; fp32 and bf16 run on the CPU")
    if asked == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    return asked


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context in which the network computes in this precision."""
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    return torch.autocast(device.type, dtype)


def gradient_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return what keeps small float16 gradients from becoming 0; it does nothing in others."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
