"""The running average of weights: steadier than the last ones, for the price of a float32 copy."""

from __future__ import annotations

import torch


class Average:
    """Exponential moving average of a module's parameters, float32 whatever they are.

    At `decay` d, weights of n steps ago count (1 - d) d^n. Step n decays by (1 + n) / (10 + n) where that is
    less, so that the first weights, which mean nothing, are soon forgotten (as TensorFlow's
    ExponentialMovingAverage does). At decay 0 there is no copy: the average is the weights.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._parameters = dict(module.named_parameters())
        self._decay = decay
        self.tensors: dict[str, torch.Tensor] = {}  # by the parameters' names
        if decay:
            self.tensors = {
                name: p.detach().to(torch.float32, copy=True) for name, p in self._parameters.items()
            }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that `step` (counted from 0) left."""
        new = 1.0 - min(self._decay, (1 + step) / (10 + step))
        for name, average in self.tensors.items():
            average.lerp_(self._parameters[name].float(), new)

    def weights(self) -> dict[str, torch.Tensor]:
        """The average by parameter name, ready for `load_state_dict`; not a copy."""
        return self.tensors or {name: p.detach() for name, p in self._parameters.items()}
