"""Measure the memory of the class centres on several ranks, with sampled centres.

    python benchmarks/partial_fc.py                        # 1,000,000 identities on two ranks
    python benchmarks/partial_fc.py --ranks 1 --sample 1 --identities 100000

Each rank takes a few steps on random embeddings. The peak is that of its resident memory above what the
process holds before the centres; the moments are written everywhere, so that all their pages count. It is
compared with the rank's share of the full matrix and its two moments, plus 20 %. Before, the gradients of a
small case are compared with those of the same loss with a dense gradient.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys

import torch

from faceum.train.distributed import join_processes, rank
from faceum.train.optim import build_centre_optimizer
from faceum.train.partial_fc import MarginConfig, PartialFC

FLOAT = 4
STEPS = 3


def peak() -> int:
    """Return the process's peak resident memory in bytes (Linux)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def take_step(module: PartialFC, batch: int, step: int) -> torch.Tensor:
    """Run both passes on this rank's random faces; return the embeddings' gradient."""
    generator = torch.Generator().manual_seed(step * 1000 + rank())
    embedding = torch.randn(batch, module.weight.shape[1], generator=generator, requires_grad=True)
    person = torch.randint(module.num_identities, (batch,), generator=generator)
    module.weight.grad = None
    module(embedding, person, step).backward()
    module.correct_gradients()
    return embedding.grad


def largest_error(config: MarginConfig) -> float:
    """Return the largest difference of sparse and dense gradients, relative to the largest gradient."""

    class Dense(PartialFC):
        sparse = False

    modules = [kind(config, num_identities=2000, outputs=64) for kind in (PartialFC, Dense)]
    embeddings = [take_step(module, 32, 0) for module in modules]
    sparse, dense = (module.weight.grad for module in modules)
    pairs = [(embeddings[0], embeddings[1]), (dense_of(sparse), dense_of(dense))]
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def dense_of(gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient with all rows."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def work(arguments: argparse.Namespace) -> None:
    """Measure one rank, and print from each."""
    torch.set_num_threads(1)
    config = MarginConfig(sample=arguments.sample)
    with join_processes():
        error = largest_error(config)
        before = peak()
        module = PartialFC(config, num_identities=arguments.identities)
        optimizer = build_centre_optimizer(module, lr=1e-3, weight_decay=0.05)
        for step in range(STEPS):
            take_step(module, arguments.batch, step)
            optimizer.step()
            if step == 0:
                for name in ("exp_avg", "exp_avg_sq"):
                    optimizer.state[module.weight][name].mul_(1)
        held = peak() - before
    full = 3 * FLOAT * module.weight.shape[1] * arguments.identities
    print(
        f"rank {rank_of()} of {arguments.ranks}: {arguments.identities:,} identities, sample "
        f"{arguments.sample}: peak {held / 1e9:.3f} GB; full matrix and moments {full / 1e9:.3f} GB; "
        f"their share plus 20 %: {full / arguments.ranks * 1.2 / 1e9:.3f} GB; largest error of a gradient "
        f"{error:.1e}",
        flush=True,
    )


def rank_of() -> str:
    """Return this process's rank, as torchrun's variable has it."""
    return os.environ.get("RANK", "0")


def main() -> None:
    """Start the ranks, or be one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--identities", type=int, default=1_000_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sample", type=float, default=0.05)
    parser.add_argument("--batch", type=int, default=64, help="faces of a rank")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        work(arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(arguments.ranks)}
    processes = [
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, **several, "RANK": str(number)})
        for number in range(arguments.ranks)
    ]
    sys.exit(max(process.wait() for process in processes))


if __name__ == "__main__":
    main()
