"""A step of learning for every net that learns in batches: one cycle of rates, and a moving average that is kept."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)

_LONGEST_GRADIENT = 1.0


class Learner(Generic[Net]):
    """AdamW on one cycle of rates (Smith, 2018). `kept` is the exponential moving average of what was learned.

    Args:
        steps: how many there will be at most.
        average: how much of the average stays at each step, once there were enough of them.
    """

    def __init__(self, net: Net, *, rate: float, weight_decay: float, steps: int, average: float) -> None:
        self.net = net
        self.kept = copy.deepcopy(net)
        self.steps = steps
        self.done = 0
        self._most = average
        self._adam = torch.optim.AdamW(net.parameters(), rate, weight_decay=weight_decay)
        self._cycle = torch.optim.lr_scheduler.OneCycleLR(self._adam, rate, total_steps=steps)

    def learn(self, loss: Tensor) -> None:
        """Go one step down."""
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), _LONGEST_GRADIENT)
        self._adam.step()
        self._cycle.step()
        self.done += 1
        self._average(min(self._most, (1 + self.done) / (10 + self.done)))

    @torch.no_grad()
    def _average(self, share: float) -> None:
        for one, other in zip(self.kept.state_dict().values(), self.net.state_dict().values(), strict=True):
            if one.dtype.is_floating_point:
                one.lerp_(other, 1 - share)
            else:
                one.copy_(other)
