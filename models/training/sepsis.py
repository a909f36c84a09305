"""The sepsis network and its training.

One LSTM step per hour or part of it. Elapsed time is a feature, `gap_h`, and so reaches every gate: the forget gate can
decay the memory with the elapsed time, as in DeepCare (Pham et al., J Biomed Inform 69:218, 2017). The training data
have a row for every hour, so rows are dropped at random in training; otherwise the net would never see a gap.

Training uses chunks of one day, cut at new places in each epoch: from whole records the net would learn the time since
admission.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.sepsis_features import INPUTS, MAX_AGE_H, NAMES, TOGETHER_OF
from models.training.learning import Learner
from models.training.progress import OnStep, Step

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

SEGMENTS: Final = 6
GAP_KNOTS_H: Final = (0.0, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0)
HEADS: Final = ("within 6 h", "within 12 h", "within 24 h", "ever")
HEAD_LOSS: Final = (1.0, 0.3, 0.2, 0.1)
SECOND_LOSS: Final = 0.2
SECOND_EVERY: Final = 2
"""The second task is trained at every n-th step."""
HEAD_MIX: Final = (1.0, 0.5, 0.3, 0.2)
"""Weights of the heads in the score: a sum of logits, calibrated afterwards."""


class SepsisRecipe(NamedTuple):
    """Hyperparameters of the sepsis net. The model card lists the variants that were tried."""

    members: int = 2  # nets with different initial weights; their logits are averaged
    epochs: int = 14
    hidden: int = 64
    embedding: int = 64
    chunk: int = 24  # hours
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    average: float = 0.998  # decay of the moving average of the weights
    left_out: float = 0.05  # share of rows dropped in training
    hidden_signs: float = 0.05  # probability that a sign, the age or the sex is hidden for a whole chunk


class SepsisNet(nn.Module):
    """From x [B, T, F] (NaN: unknown), h and c [1, B, H] to logits [B, T, 4], h and c.

    Each feature is encoded piecewise linearly between its quantiles, with a flag for "unknown" (Gorishniy et al.,
    NeurIPS 2022): common values are well resolved, and extreme values have a bounded effect.
    """

    low: Tensor
    width: Tensor

    def __init__(self, knots: Tensor, *, hidden: int, embedding: int, dropout: float, second: bool = False) -> None:
        super().__init__()
        self.register_buffer("low", knots[:, :-1].contiguous())
        self.register_buffer("width", (knots[:, 1:] - knots[:, :-1]).contiguous())
        self.features = knots.shape[0]
        self.embed = nn.Linear(knots.shape[0] * (SEGMENTS + 1), embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.out = nn.Linear(hidden, len(HEADS))
        self.skip = nn.Linear(embedding, len(HEADS))
        self.drop = nn.Dropout(dropout)
        if second:
            self.second = nn.Linear(hidden, 1)  # used in training only

    def encode(self, x: Tensor) -> Tensor:
        missing = torch.isnan(x)
        known = torch.where(missing, self.low[:, 0], x).unsqueeze(-1)
        risen = ((known - self.low) / self.width).clamp(0, 1)
        return torch.cat([risen, missing.unsqueeze(-1).to(x.dtype)], -1).flatten(-2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedded = self.drop(torch.relu(self.embed(self.encode(x))))
        out, (h, c) = self.lstm(embedded, (h, c))
        return self.out(self.drop(out)) + self.skip(embedded), h, c

    def other_task(self, x: Tensor) -> Tensor:
        """Logits of the second task, [B, T], from the same embedding and LSTM."""
        zero = x.new_zeros(1, len(x), self.lstm.hidden_size)
        out, _ = self.lstm(self.drop(torch.relu(self.embed(self.encode(x)))), (zero, zero))
        return self.second(self.drop(out))[..., 0]


class SepsisMembers(nn.Module):
    """Several nets in parallel: h and c [1, B, M * H], logits averaged."""

    def __init__(self, nets: list[SepsisNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.hidden = nets[0].lstm.hidden_size
        self.features = nets[0].features

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = [
            net(x, *(state[..., at * self.hidden : (at + 1) * self.hidden].contiguous() for state in (h, c)))
            for at, net in enumerate(self.nets)
        ]
        logits = torch.stack([one for one, _, _ in outputs]).mean(0)
        return logits, torch.cat([one for _, one, _ in outputs], -1), torch.cat([one for _, _, one in outputs], -1)


class TrainingStays(NamedTuple):
    """Rows of many stays, concatenated."""

    features: Floats  # [N, F]
    labels: Ints  # [N]
    starts: Ints  # [P]
    ends: Ints  # [P]

    def subset(self, patients: Ints) -> "TrainingStays":
        """The stays of some patients, on the same rows."""
        return self._replace(starts=self.starts[patients], ends=self.ends[patients])


def knots_of(features: Floats) -> Floats:
    """Segment borders of each feature, [F, SEGMENTS + 1]: quantiles, made strictly increasing."""
    found = np.nanquantile(features[::7], np.linspace(0.005, 0.995, SEGMENTS + 1), axis=0).T
    found = np.maximum.accumulate(found, axis=1)
    # Every gap in the training data is one hour, so quantiles of the gap are meaningless.
    found[NAMES.index("gap_h")] = GAP_KNOTS_H
    return (found + np.arange(SEGMENTS + 1) * 1e-4 * (1 + np.abs(found[:, :1]))).astype(np.float32)


def horizons(labels: Ints, starts: Ints, ends: Ints) -> Floats:
    """Targets of the heads, [N, 4]: the label, the label 6 h and 18 h earlier, and whether it occurs in this stay."""
    wanted = np.zeros((len(labels), len(HEADS)), np.float32)
    wanted[:, 0] = labels
    for start, end in zip(starts, ends, strict=True):
        if labels[start:end].any():
            since = np.arange(end - start) - int(np.argmax(labels[start:end]))
            wanted[start:end, 1], wanted[start:end, 2], wanted[start:end, 3] = since >= -6, since >= -18, 1
    return wanted


def fit_sepsis(
    stays: TrainingStays,
    recipe: SepsisRecipe,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
    second: TrainingStays | None = None,
    ages: bool = True,
) -> SepsisNet:
    """Train on stays. The same seed gives the same net on the same machine.

    Args:
        second: stays of a second task, trained with its own head on the same LSTM; the head is dropped afterwards.
        ages: False if `age_h` is 0 in all rows; hidden signs then get age 0 as well.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(a, b) for a, b in zip(stays.starts, stays.ends, strict=True)])
    net = SepsisNet(
        torch.from_numpy(knots_of(stays.features[rows])),
        hidden=recipe.hidden,
        embedding=recipe.embedding,
        dropout=recipe.dropout,
        second=second is not None,
    ).to(device)
    features = torch.from_numpy(np.vstack([stays.features, np.full((1, stays.features.shape[1]), np.nan, np.float32)]))
    wanted = torch.from_numpy(
        np.vstack([horizons(stays.labels, stays.starts, stays.ends), np.zeros((1, 4), np.float32)])
    )
    nowhere = len(features) - 1
    weight = torch.tensor(HEAD_LOSS, device=device)
    chunks = _chunks(stays, recipe.chunk, rng)
    steps = recipe.epochs * (len(chunks) // recipe.batch + 3)
    learner = Learner(net, rate=recipe.rate, weight_decay=recipe.weight_decay, steps=steps, average=recipe.average)
    gap = NAMES.index("gap_h")
    hiding, hidden_as = _hiding(MAX_AGE_H if ages else 0.0)
    others = None if second is None else _batches(second, recipe, np.random.default_rng(seed + 1), device)
    for epoch in range(recipe.epochs):
        net.train()
        if epoch:
            chunks = _chunks(stays, recipe.chunk, rng)
        for first in range(0, len(chunks), recipe.batch):
            subset = chunks[first : first + recipe.batch]
            places = subset[:, :1] + np.arange(recipe.chunk)
            places = np.where(places < subset[:, 1:], places, nowhere)
            if recipe.left_out:
                places, gaps = _thinned(places, nowhere, recipe.left_out, rng)
            x, y = features[places], wanted[places]
            if recipe.left_out:
                x[..., gap] = torch.from_numpy(gaps)
            if recipe.hidden_signs:
                x = _hidden(x, hiding, hidden_as, recipe.hidden_signs, rng)
            x = x.to(device)
            zero = x.new_zeros(1, len(x), recipe.hidden)
            logits, _, _ = net(x, zero, zero)
            each = nn.functional.binary_cross_entropy_with_logits(logits, y.to(device), reduction="none")
            there = torch.from_numpy(places != nowhere).to(device)
            loss = (each * weight).sum(-1)[there].mean()
            if others is not None and learner.done % SECOND_EVERY == 0:
                x, y, there = next(others)
                each = nn.functional.binary_cross_entropy_with_logits(net.other_task(x), y, reduction="none")
                loss = loss + SECOND_LOSS * each[there].mean()
            learner.learn(loss)
        on_step(Step(learner.done, steps, float(loss.detach())))
    if second is not None:
        del learner.kept.second
    return learner.kept.eval()


def _batches(
    stays: TrainingStays, recipe: SepsisRecipe, rng: np.random.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches (x, y, mask of valid rows) of the second task."""
    features = torch.from_numpy(np.vstack([stays.features, np.full((1, stays.features.shape[1]), np.nan, np.float32)]))
    labels = torch.from_numpy(np.r_[stays.labels, 0].astype(np.float32))
    nowhere = len(labels) - 1
    while True:
        chunks = _chunks(stays, recipe.chunk, rng)
        for first in range(0, len(chunks), recipe.batch):
            subset = chunks[first : first + recipe.batch]
            places = subset[:, :1] + np.arange(recipe.chunk)
            places = np.where(places < subset[:, 1:], places, nowhere)
            yield features[places].to(device), labels[places].to(device), torch.from_numpy(places != nowhere).to(device)


def _chunks(stays: TrainingStays, hours: int, rng: np.random.Generator) -> Ints:
    """(first row, end) of each chunk, with a random offset for each stay."""
    found: list[tuple[int, int]] = []
    for start, end in zip(stays.starts.tolist(), stays.ends.tolist(), strict=True):
        for at in range(start - int(rng.integers(0, hours)), end, hours):
            first, last = max(at, start), min(at + hours, end)
            if last - first >= 2:
                found.append((first, last))
    return rng.permutation(np.asarray(found, np.int64))


def _hiding(age_h: float) -> tuple[Tensor, Tensor]:
    """Features affected when each sign, the age or the sex is hidden, [8, F], and their values then, [F]."""
    names = list(NAMES)
    hidden_as = torch.full((len(names),), float("nan"))
    rows = []
    for sign in INPUTS:
        rows.append([name.startswith(f"{sign.value}.") or sign in TOGETHER_OF.get(name, ()) for name in names])
        hidden_as[names.index(f"{sign.value}.age_h")] = age_h
    rows += [[name == alone for name in names] for alone in ("age_years", "male")]
    return torch.tensor(rows), hidden_as


def _hidden(x: Tensor, hiding: Tensor, hidden_as: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    chosen = torch.from_numpy(rng.random((len(x), len(hiding))) < share)
    gone = (chosen.float() @ hiding.float() > 0)[:, None, :]
    return torch.where(gone, hidden_as, x)


def _thinned(places: Ints, nowhere: int, share: float, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Drop rows at random and close up the others; returns the rows and the resulting gap of each in hours, [B, T]."""
    keep = (rng.random(places.shape) >= share * rng.random((len(places), 1)) * 2) & (places != nowhere)
    keep[:, 0] |= ~keep.any(1)
    order = np.argsort(~keep, axis=1, kind="stable")
    kept = np.take_along_axis(keep, order, 1)
    where = np.where(kept, order, 0)
    gaps = np.diff(where, axis=1, prepend=where[:, :1] - 1).astype(np.float32)
    return np.where(kept, np.take_along_axis(places, order, 1), nowhere), np.where(kept, gaps, 1.0).astype(np.float32)
