"""The processes of one training: a single one, or those that torchrun starts, one for each GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all: its device, its number `rank` from 0, and how many there are."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    def in_turn(self, work: Callable[[], T]) -> T:
        """Let the first process do the work alone (draw, download), then all others."""
        result = work() if self.rank == 0 else None
        self.wait()
        return work() if result is None else result

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def share(self, model: nn.Module) -> nn.Module:
        """Wrap a model so that each backward pass averages the gradients of all processes."""
        if self.world_size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def mean(self, losses: dict[str, float]) -> dict[str, float]:
        """Average every loss over all processes; a single process keeps its own."""
        if self.world_size == 1:
            return losses
        numbers = torch.tensor(list(losses.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(numbers)
        return dict(zip(losses, (numbers / self.world_size).tolist(), strict=True))


def one_process(device: torch.device | str | None = None) -> Processes:
    """Return what stands for a training in this process alone, on the GPU if there is one."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Processes(torch.device(device))


@contextlib.contextmanager
def connected() -> Iterator[Processes]:
    """Connect to the other processes, under torchrun, and disconnect in the end."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield one_process()
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, int(os.environ["RANK"]), world_size)
    finally:
        torch.distributed.destroy_process_group()
