"""The heart network and its training: a DLMNN, a small perceptron with initial weights from a cuttlefish search.

After Sarmah, IEEE Access 8:134784, 2020. Several members, each with a direct connection from input to output, run in
parallel; their logits are averaged. In training, attributes are hidden at random: which values are missing reflects the
hospital more than the heart, and at home most are missing.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.heart_features import Form, attributes_of, names_of
from models.training.cuttlefish import search
from models.training.progress import OnStep, Step

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

STARTS: Final = ("cuttlefish", "random")
BOX: Final = 1.0
"""Weights are searched between minus and plus this value, in units of their usual initial deviation."""


class HeartRecipe(NamedTuple):
    """Hyperparameters of the heart net. The model card lists the variants that were tried."""

    members: int = 8
    first: int = 8
    second: int = 4
    steps: int = 200
    rate: float = 1e-2
    weight_decay: float = 0.05
    hidden_attributes: float = 0.4  # share of attributes hidden, on average
    generations: int = 60  # generations of the cuttlefish search for each member; 0: random initial weights
    population: int = 40


class HeartNet(nn.Module):
    """From x [B, F], as `heart_features` computes it, to logits [B]."""

    mean: Tensor
    deviation: Tensor
    marks: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, marks: Tensor, recipe: HeartRecipe) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.register_buffer("marks", marks)  # [F, F]: 1 where a flag tells that a number is missing
        m, f, one, two = recipe.members, len(mean), recipe.first, recipe.second
        self.one = nn.Parameter(torch.randn(m, f, one) / f**0.5)
        self.one_bias = nn.Parameter(torch.zeros(m, 1, one))
        self.two = nn.Parameter(torch.randn(m, one, two) / one**0.5)
        self.two_bias = nn.Parameter(torch.zeros(m, 1, two))
        self.three = nn.Parameter(torch.randn(m, two, 1) / two**0.5 * 0.3)
        self.three_bias = nn.Parameter(torch.zeros(m, 1, 1))
        self.straight = nn.Parameter(torch.zeros(m, f, 1))

    def scale(self, x: Tensor) -> Tensor:
        """Numbers scaled by mean and deviation of the measured values; a missing number becomes 0, the mean."""
        return (x - self.mean * (1 - x @ self.marks)) / self.deviation

    def members(self, scaled: Tensor) -> Tensor:
        """From [M, B, F] or [B, F] to the logits of each member, [M, B]."""
        hidden = torch.tanh(scaled @ self.one + self.one_bias)
        hidden = torch.tanh(hidden @ self.two + self.two_bias)
        return (hidden @ self.three + self.three_bias + scaled @ self.straight)[..., 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.members(self.scale(x)[None]).mean(0)


class Groups(NamedTuple):
    """The features of each attribute, and their values when it is missing."""

    of: Tensor  # [A, F]
    missing: Tensor  # [A, F]
    marks: Tensor  # [F, F]


def groups_of(form: Form) -> Groups:
    """The feature groups of a form's attributes."""
    names = names_of(form)
    attributes = attributes_of(form)
    of, missing = torch.zeros(len(attributes), len(names)), torch.zeros(len(attributes), len(names))
    marks = torch.zeros(len(names), len(names))
    for at, one in enumerate(attributes):
        mine = [place for place, name in enumerate(names) if name.split("=")[0].removesuffix(" missing") == one.name]
        of[at, mine] = 1
        missing[at, mine[-1]] = 1
        if not one.codes:
            marks[mine[1], mine[0]] = 1
    return Groups(of, missing, marks)


def fit_heart(
    form: Form, rows: Floats, labels: Ints, recipe: HeartRecipe, *, seed: int, device: str, on_step: OnStep
) -> HeartNet:
    """Train on the features of patients, [N, F]. The same seed gives the same net on the same machine."""
    torch.manual_seed(seed)
    groups = groups_of(form)
    x, y = torch.tensor(rows, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)
    net = HeartNet(*_scaler(x, groups), groups.marks, recipe)
    if recipe.generations:
        _search_first_weights(
            net, x, y, recipe, np.random.default_rng(seed), lambda done: on_step(Step(done, recipe.generations, 0.0))
        )
    net, x, y = net.to(device), x.to(device), y.to(device)
    of, missing = groups.of.to(device), groups.missing.to(device)
    adam = torch.optim.AdamW(net.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, recipe.rate, total_steps=max(recipe.steps, 1))
    for done in range(recipe.steps):
        share = 2 * recipe.hidden_attributes * torch.rand(recipe.members, len(x), 1)
        hide = (torch.rand(recipe.members, len(x), len(of)) < share).float().to(device)
        shown = x * (1 - hide @ of) + hide @ missing
        logits = net.members(net.scale(shown))
        loss = functional.binary_cross_entropy_with_logits(logits, y.expand_as(logits))
        adam.zero_grad()
        loss.backward()
        adam.step()
        cycle.step()
        if done % 20 == 19:
            on_step(Step(done + 1, recipe.steps, float(loss.detach())))
    return net.eval()


def _scaler(x: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the measured numbers; codes and flags are not scaled."""
    mean, deviation = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    for mark, number in groups.marks.nonzero().tolist():
        measured = x[x[:, mark] == 0, number]
        mean[number], deviation[number] = measured.mean(), measured.std() + 1e-6
    return mean, deviation


@torch.no_grad()
def _search_first_weights(
    net: HeartNet, x: Tensor, y: Tensor, recipe: HeartRecipe, rng: np.random.Generator, on_step: Callable[[int], None]
) -> None:
    """Set the weights of each member to the result of a cuttlefish search."""
    names = ("one", "one_bias", "two", "two_bias", "three", "three_bias", "straight")
    shapes = [getattr(net, name).shape[1:] for name in names]
    sizes = [shape.numel() for shape in shapes]
    unit = torch.cat([torch.full((size,), max(shape[0], 1) ** -0.5) for shape, size in zip(shapes, sizes, strict=True)])
    scaled = net.scale(x)[None]

    def cost(points: Floats) -> Floats:
        parts = (torch.tensor(points, dtype=torch.float32) * unit).split(sizes, dim=1)
        one, one_bias, two, two_bias, three, three_bias, straight = (
            part.reshape(len(points), *shape) for part, shape in zip(parts, shapes, strict=True)
        )
        hidden = torch.tanh(torch.tanh(scaled @ one + one_bias) @ two + two_bias)
        logits = (hidden @ three + three_bias + scaled @ straight)[..., 0]
        losses = functional.binary_cross_entropy_with_logits(logits, y.expand_as(logits), reduction="none").mean(1)
        return losses.numpy().astype(np.float64)

    wall = np.full(int(sum(sizes)), BOX)
    for member in range(recipe.members):
        found = search(cost, low=-wall, high=wall, rng=rng, population=recipe.population)
        best = next(generation.best for generation in found if generation.number == recipe.generations)
        parts = (torch.tensor(best, dtype=torch.float32) * unit).split(sizes)
        for name, part, shape in zip(names, parts, shapes, strict=True):
            getattr(net, name)[member] = part.reshape(shape)
        on_step(round((member + 1) / recipe.members * recipe.generations))
