"""How a network is trained on step by step: a learning rate that rises and falls, a strength of the
attack that grows, and the average of the weights on the way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

RISE, RAMP = 0.1, 0.5
"""Shares of the steps in which the learning rate rises, and in which eps does."""

LONGEST_MEMORY = 0.995
"""Largest weight of what was averaged before."""


class Course:
    """The way of a fine-tuning of a number of steps.

    The learning rate rises linearly to that of the settings and falls linearly to 0; eps grows
    linearly from 0 to that of the settings (Epsilon-Scheduling, arXiv 2509.23325). `average` holds
    the exponential moving average of what is of floating point in the network (Izmailov et al.
    2018; the weight of step k, 1 - min(0.995, (1 + k) / (10 + k)), forgets where it began).
    """

    def __init__(self, settings: Mapping[str, Any], *, steps: int):
        self._settings, self.steps, self.done = settings, steps, 0
        self.average: dict[str, Tensor] = {}

    def before_step(self, optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
        """The settings of the step that comes, with its eps; the optimiser gets its rate."""
        at, settings = (self.done + 1) / self.steps, self._settings
        falls = (1 - at + 1 / self.steps) / (1 - RISE)
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * min(at / RISE, falls, 1.0)
        if not settings["adversarial"]:
            return settings
        eps = settings["adversarial"]["eps"] * min(at / RAMP, 1.0)
        return {**settings, "adversarial": {**settings["adversarial"], "eps": eps}}

    def after_step(self, network: nn.Module) -> None:
        """Takes the network into the average."""
        memory = min(LONGEST_MEMORY, (1 + self.done) / (10 + self.done)) if self.done else 0.0
        for name, value in network.state_dict().items():
            if self.done and value.is_floating_point():
                self.average[name].lerp_(value, 1 - memory)
            else:
                self.average[name] = value.clone()
        self.done += 1
