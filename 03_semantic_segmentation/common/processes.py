"""Connect the processes that torchrun starts, one for each GPU or part of the CPU."""

import os

import torch


def start_processes() -> tuple[int, int, torch.device]:
    """Return rank, world size and device; under torchrun, connect to the other processes."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world_size > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return int(os.environ.get("RANK", 0)), world_size, device


def stop_processes() -> None:
    """Disconnect from the other processes, if there are any."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
