"""Training in step on several processes (data parallel): each has its share of every batch, and sums are over all.

`torchrun` starts the processes, and tells each by its environment which one it is. Without it there is one, and nothing
here does anything.
"""

from __future__ import annotations

import contextlib
import os

import torch
from torch import distributed


def _started():
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def joined(device):
    """The processes that torchrun started belong together inside the block, and work on devices like ``device`` (a
    `torch.device`)."""
    if not _started():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                   device_id=device if device.type == "cuda" else None)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def own_device(device=None):
    """The name of the device that is meant by ``device``, or by None: where each process has a GPU, its own one."""
    if _started() and (device == "cuda" or (device is None and torch.cuda.is_available())):
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def _grouped():
    return distributed.is_available() and distributed.is_initialized()


def count():
    """Processes."""
    return distributed.get_world_size() if _grouped() else 1


def is_first():
    """Whether this process is the one that writes and shows what all have in common."""
    return not _started() or os.environ.get("RANK") == "0"


def share(samples):
    """Of what all processes have alike (samples first) those that are for this one."""
    return samples[distributed.get_rank()::distributed.get_world_size()] if _grouped() else samples


def total(*values):
    """The sums over all processes of each one's ``values``: tensors of one type, and after the first numbers too."""
    if not _grouped():
        return values
    tensors = [torch.as_tensor(value, dtype=values[0].dtype, device=values[0].device) for value in values]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    return [part.view_as(tensor) for part, tensor in
            zip(flat.split([tensor.numel() for tensor in tensors]), tensors, strict=True)]


def add_gradients(parameters):
    """Make each process's gradients of ``parameters`` the sums of all."""
    if _grouped():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient, summed in zip(gradients, total(*gradients), strict=True):
            gradient.copy_(summed)
