"""The network on GPU actors of Ray; workers on processors decode, detect, and send them the crops."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceum.analyzer import FaceAnalyzer
from faceum.errors import FaceumError
from faceum.runner import Runner

CALLS_AT_ONCE = 2
"""Calls that an actor runs at once: one computes while the crops of the next are copied."""

SECONDS_TO_START = 300.0
"""How long GPU actors may take to start; those that are not there by then are not used."""


class NetworkActor:
    """Runs a network in an actor that holds a GPU."""

    def __init__(self, options: dict[str, Any]) -> None:
        """options: arguments of `FaceAnalyzer`."""
        self._runner = FaceAnalyzer(**options).runner

    def describe(self) -> tuple[str, str]:
        """Return the network as name@sha256[:8], and the device that it runs on."""
        return self._runner.model_id, self._runner.device

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `faceum.runner.Runner.run`."""
        return self._runner.run(crops_BSSC, face_tokens_BN, tasks)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """GPU actors that run the network. device: on which the network runs in them, "cuda" or "cpu"."""

    actors: Sequence[Any]
    device: str

    def replace(self, runner: Runner) -> Runner:
        """Return a runner that has the network run by the actors."""
        return ActorRunner(runner, self)


def start_networks(ray: Any, gpus: int, options: dict[str, Any]) -> Networks | None:
    """Start an actor with a network for each GPU; return those that started, or None if there are none.

    options: arguments of `FaceAnalyzer`. Raises FaceumError if the network cannot run in them.
    """
    if gpus < 1:
        return None
    # A lost actor is not started again: until there is a free GPU for it, calls would wait for ever.
    kind = ray.remote(NetworkActor).options(num_gpus=1, num_cpus=0, max_concurrency=CALLS_AT_ONCE)
    actors = {}
    for _ in range(gpus):
        actor = kind.remote(options)
        actors[actor.describe.remote()] = actor
    ready, late = ray.wait(list(actors), num_returns=gpus, timeout=SECONDS_TO_START)
    for one in late:
        ray.kill(actors[one])
    try:
        devices = {device for _, device in ray.get(ready)}
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise FaceumError(
            f"The network cannot start on a GPU of the Ray cluster ({reason}); check its nodes, or use "
            "--device cpu."
        ) from None
    if not ready:
        return None
    device = "cuda" if devices == {"cuda"} else "cpu"
    return Networks(actors=[actors[one] for one in ready], device=device)


class ActorRunner:
    """A runner whose network is run by GPU actors in turn, and by the runner within once all are lost."""

    def __init__(self, inner: Runner, networks: Networks) -> None:
        """inner: a runner of the same network in this process."""
        self._inner, self._left = inner, list(networks.actors)
        self._turns = itertools.count(random.randrange(len(networks.actors)))
        self.card, self.runtime, self.device = inner.card, inner.runtime, networks.device

    @property
    def model_id(self) -> str:
        """See `Runner.model_id`."""
        return self._inner.model_id

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        import ray

        while left := list(self._left):
            actor = left[next(self._turns) % len(left)]
            try:
                answer: dict[str, np.ndarray] = ray.get(
                    actor.run.remote(crops_BSSC, face_tokens_BN, tuple(tasks))
                )
                return answer
            except ray.exceptions.RayActorError:
                self._left = [one for one in self._left if one is not actor]
        return self._inner.run(crops_BSSC, face_tokens_BN, tasks)
