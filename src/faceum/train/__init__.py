"""A recipe's RunConfig in; a folder with checkpoints, metrics and the trained network out.

`settings` says what a run can be told, `trainer` is one step, `objective` what is minimised, `run` the loop.
"""

from faceum.train.config import RunConfig
from faceum.train.loop import train
from faceum.train.trainer import Trainer

__all__ = ["RunConfig", "Trainer", "train"]
