"""A step of learning: the net goes down, and what is kept follows it slowly."""

import pytest
import torch
from torch import nn

from models.training.learning import Learner

pytestmark = pytest.mark.training


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def learned(learner: "Learner[nn.Linear]", steps: int) -> list[float]:
    x = torch.linspace(-1, 1, 16)[:, None]
    losses = []
    for _ in range(steps):
        loss = ((learner.net(x) - 3 * x) ** 2).mean()
        learner.learn(loss)
        losses.append(float(loss.detach()))
    return losses


def test_the_loss_falls_and_the_kept_net_learns_with_it() -> None:
    learner = Learner(line(), rate=0.1, weight_decay=0.0, steps=200, average=0.9)

    losses = learned(learner, 200)

    assert losses[-1] < losses[0] / 100
    assert abs(float(learner.kept.weight.detach()) - 3) < 0.2
    assert learner.done == 200


def test_what_is_kept_is_an_average_of_what_was_learned() -> None:
    slow, fast = (Learner(line(), rate=0.1, weight_decay=0.0, steps=20, average=share) for share in (0.999, 0.0))
    first = float(slow.kept.weight.detach())

    learned(slow, 3)
    learned(fast, 3)

    assert float(fast.kept.weight.detach()) == float(fast.net.weight.detach())
    assert abs(float(slow.kept.weight.detach()) - first) < abs(float(slow.net.weight.detach()) - first)


def test_running_counts_of_a_normalised_net_are_kept_as_they_are() -> None:
    learner = Learner(nn.BatchNorm1d(2), rate=0.1, weight_decay=0.0, steps=5, average=0.9)

    learner.learn(learner.net(torch.randn(8, 2)).pow(2).mean())

    assert int(learner.kept.num_batches_tracked) == 1
