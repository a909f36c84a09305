"""The optimiser of the batch-trained nets: AdamW with a one-cycle learning rate and a moving average of the weights."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)

_MAX_GRADIENT_NORM = 1.0


class Learner(Generic[Net]):
    """AdamW with a one-cycle learning rate (Smith, 2018). `kept` is the exponential moving average of the net.

    Args:
        steps: maximum number of steps.
        average: decay of the moving average; the first steps use a smaller one.
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
        """One optimiser step for this loss."""
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), _MAX_GRADIENT_NORM)
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
