"""The torch modules of recipes. They are made here alone, so that all of them are where training computes.

First weights are drawn on the CPU, by its generator, and then go to the device: they are the same on any.
"""

from __future__ import annotations

from ..config import Config, VisionConfig
from ..model.modules import TextModule
from ..model.vision_modules import TowerModule
from ..ops.trainable import Trainable
from ..train.initial import initialise, initialise_sigmoid, initialise_tower
from ..train.runmodel import device
from ..train.sigmoid_task import SigmoidModel, TextEncoder
from ..weights.assemble import module_text, module_tower
from ..weights.checkpoint import Checkpoint
from ..weights.vision import VisionCheckpoint
from .results import Weights


def decoder(config: Config, weights: Weights, row: int) -> TextModule:
    """A decoder for rows of `row` tokens."""
    model = TextModule(config, _ops(config, row))
    model.load_arrays(weights)
    return model.to(device())


def new_decoder(config: Config, seed: int, row: int) -> TextModule:
    """One with its first weights."""
    model = TextModule(config, _ops(config, row))
    initialise(model, seed)
    return model.to(device())


def stored_decoder(checkpoint: Checkpoint, row: int) -> TextModule:
    """One with the weights, the config and the embedding's scale of a file."""
    return module_text(checkpoint, _ops(checkpoint.config, row)).to(device())


def new_tower(config: VisionConfig, width: int, seed: int) -> TowerModule:
    """A tower with its first weights, for a decoder of this width."""
    tower = TowerModule(config, width, _tower_ops(config))
    initialise_tower(tower, seed)
    return tower.to(device())


def stored_tower(checkpoint: VisionCheckpoint) -> TowerModule:
    """One with the weights of a file."""
    return module_tower(checkpoint, _tower_ops(checkpoint.config)).to(device())


def new_pairing(
    tower: TowerModule, reader: Config, longest: int, size: int, bias: float, seed: int
) -> SigmoidModel:
    """A tower beside a reader of texts with its first weights; see `TextEncoder` and `SigmoidModel`."""
    model = SigmoidModel(tower, TextEncoder(reader, longest, size, device()), bias)
    initialise_sigmoid(model, seed)
    return model.to(device())


def _ops(config: Config, row: int) -> Trainable:
    return Trainable(row, (None, config.window), device())


def _tower_ops(config: VisionConfig) -> Trainable:
    return Trainable(config.patches, (None,), device())
