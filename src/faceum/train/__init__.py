"""Train a network with a recipe.

`config` has the settings, `loop` runs the training, `trainer` is one step, `objective` the total loss.
"""

from faceum.train.config import RunConfig
from faceum.train.loop import train
from faceum.train.trainer import Trainer

__all__ = ["RunConfig", "Trainer", "train"]
