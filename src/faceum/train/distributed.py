"""Ranks of a run started by torchrun: their numbers, sums, gathers and averaged gradients.

Nothing starts at import. Without `join_processes()`, or with one process, every function returns its input.
`average_gradients` replaces DistributedDataParallel, because the heads that have gradients change from step
to step, and every rank has its own class centres. Of modules that `shard_modules` has divided, each rank
holds its part of the parameters, and FSDP2 averages their gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard

BUCKET = 1 << 24
"""Number of values per message when gradients are averaged."""


def rank() -> int:
    """Return this process's rank, 0 for a single process."""
    return dist.get_rank() if _has_many() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _has_many() else 1


def local_rank() -> int:
    """Return this process's rank on its machine, 0 for a single process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if _has_many() else 0


def _has_many() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def join_processes() -> Iterator[None]:
    """Join the processes that torchrun started (WORLD_SIZE above 1), and leave at the end.

    Tensors on a GPU use nccl and tensors on the CPU gloo, so that the run's device decides.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or _has_many():
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """Sum over ranks; the gradient is summed too, since every rank's loss depends on every rank's value."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of all ranks' values (of one shape), with a gradient.

    If every rank computes the same loss from such sums, and `average_gradients` follows the backward pass,
    the gradients are those of one process with all the images.
    """
    return _Sum.apply(value) if world() > 1 else value


def mean_over_ranks(value_B: Tensor) -> Tensor:
    """Return the mean over all ranks' rows; 0 if no rank has one."""
    count = sum_over_ranks(torch.tensor(float(len(value_B)), device=value_B.device))
    return sum_over_ranks(value_B.sum()) / count.clamp_min(1)


@torch.no_grad()
def max_over_ranks(value: Tensor) -> Tensor:
    """Return the element-wise maximum over ranks, without a gradient."""
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def gather_rows(value_BX: Tensor) -> Tensor:
    """Concatenate all ranks' rows, rank 0's first, with a gradient; ranks can have different numbers."""
    if world() == 1:
        return value_BX
    counts = torch.zeros(world(), dtype=torch.long, device=value_BX.device)
    counts[rank()] = len(value_BX)
    dist.all_reduce(counts)
    before, after = int(counts[: rank()].sum()), int(counts[rank() + 1 :].sum())
    blank = value_BX.new_zeros
    padded = torch.cat([blank(before, *value_BX.shape[1:]), value_BX, blank(after, *value_BX.shape[1:])])
    return sum_over_ranks(padded)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks; a parameter has one on all ranks or on none.

    Gradients of sharded parameters are means already.
    """
    if world() == 1:
        return
    bucket: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            bucket.append(parameter.grad)
            if sum(gradient.numel() for gradient in bucket) >= BUCKET:
                _average(bucket)
                bucket = []
    if bucket:
        _average(bucket)


def _average(gradients: Sequence[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world()
    for gradient, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def same_on_every_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrite each tensor with rank 0's."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def any_rank(value: bool) -> bool:
    """Return whether the value is true on some rank."""
    return bool(sum_over_ranks(torch.tensor(float(value))).item())


def shard_modules(root: nn.Module, modules: Iterable[nn.Module], device: torch.device) -> None:
    """Divide the parameters of each module over the ranks (FSDP2); those of the rest of `root` stay whole.

    A module's parameters are gathered when it runs, forward and backward. Nothing changes for one process.
    """
    if world() == 1:
        return
    mesh, divided = init_device_mesh(device.type, (world(),)), list(modules)
    for module in divided:
        for parameter in module.parameters():  # FSDP2 takes no channels-last ones
            parameter.data = parameter.data.contiguous()
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    whole = {one for one in root.parameters() if not isinstance(one, DTensor)}
    fully_shard(root, mesh=mesh, ignored_params=whole)


def local_part(value: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor, in the same memory; other tensors as they are."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole_tensor(value: Tensor) -> Tensor:
    """Return a sharded tensor gathered, for which all ranks must call this; other tensors as they are."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def rows_of_ranks(value: Tensor, num_rows: int) -> Tensor:
    """Return the ranks' rows as one DTensor over this rank's memory; for one process the tensor itself.

    Each rank must have as many rows as `torch.chunk` gives it of `num_rows`.
    """
    if world() == 1:
        return value
    mesh = init_device_mesh(value.device.type, (world(),))
    shape = torch.Size((num_rows, *value.shape[1:]))
    return DTensor.from_local(value, mesh, [Shard(0)], run_check=False, shape=shape, stride=value.stride())


def wait_for_all(device: torch.device) -> None:
    """Wait until every rank calls this; device: that of the run."""
    sum_over_ranks(torch.zeros((), device=device)).item()
