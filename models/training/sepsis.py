"""The sepsis network, complete: what it is, what it is shown, how it learns.

One LSTM step per hour or part of it. Elapsed time enters as a feature, `gap_h`, and so every gate: the forget gate
decays the memory by what has passed, as in DeepCare (Pham et al., J Biomed Inform 69:218, 2017). Every hour of these
records has a row, so while learning rows are left out at random: a net that never saw a gap would not know one.

It learns from chunks of a day, cut anew each time: of whole records it would learn the clock.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.sepsis_features import INPUTS, MOST_AGE_H, NAMES, TOGETHER_OF
from models.training.learning import Learner
from models.training.progress import Step, Tell

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

SEGMENTS: Final = 6
GAP_KNOTS_H: Final = (0.0, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0)
HEADS: Final = ("within 6 h", "within 12 h", "within 24 h", "ever")
HEAD_LOSS: Final = (1.0, 0.3, 0.2, 0.1)
SECOND_LOSS: Final = 0.2
SECOND_EVERY: Final = 2
"""The second task is asked at every so many-th step."""
HEAD_MIX: Final = (1.0, 0.5, 0.3, 0.2)
"""How the heads speak together: a sum of logits, calibrated afterwards."""


class SepsisRecipe(NamedTuple):
    """How the net learns. Numbers that were tried are in the card."""

    members: int = 2  # nets that learn the same from another beginning; their logits are averaged
    epochs: int = 14
    hidden: int = 64
    embedding: int = 64
    chunk: int = 24  # hours
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    average: float = 0.998  # of the exponential moving average that is kept
    left_out: float = 0.05  # share of rows
    hidden_signs: float = 0.05  # how often a sign, the age or the sex is hidden for a whole chunk


class SepsisNet(nn.Module):
    """x [B, T, F] (NaN: not known), h and c [1, B, H] to logits [B, T, 4], h, c.

    Each feature is encoded by straight segments between its quantiles, and a bit for "not known" (Gorishniy et al.,
    NeurIPS 2022): what is usual is spread out, and what is extreme cannot drive the net far.
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
            self.second = nn.Linear(hidden, 1)  # only while learning

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
        """Logits of the second task, [B, T]: the same embedding and memory, another question."""
        zero = x.new_zeros(1, len(x), self.lstm.hidden_size)
        out, _ = self.lstm(self.drop(torch.relu(self.embed(self.encode(x)))), (zero, zero))
        return self.second(self.drop(out))[..., 0]


class SepsisMembers(nn.Module):
    """Several nets side by side: h and c [1, B, M * H], logits averaged."""

    def __init__(self, nets: list[SepsisNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.hidden = nets[0].lstm.hidden_size
        self.features = nets[0].features

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said = [
            net(x, *(state[..., at * self.hidden : (at + 1) * self.hidden].contiguous() for state in (h, c)))
            for at, net in enumerate(self.nets)
        ]
        logits = torch.stack([one for one, _, _ in said]).mean(0)
        return logits, torch.cat([one for _, one, _ in said], -1), torch.cat([one for _, _, one in said], -1)


class Stays(NamedTuple):
    """Rows of many stays, one after the other."""

    features: Floats  # [N, F]
    labels: Ints  # [N]
    starts: Ints  # [P]
    ends: Ints  # [P]

    def some(self, patients: Ints) -> "Stays":
        """The same rows, fewer stays."""
        return self._replace(starts=self.starts[patients], ends=self.ends[patients])


def knots_of(features: Floats) -> Floats:
    """Between which values of each feature the segments lie, [F, SEGMENTS + 1]: quantiles, made to rise."""
    found = np.nanquantile(features[::7], np.linspace(0.005, 0.995, SEGMENTS + 1), axis=0).T
    found = np.maximum.accumulate(found, axis=1)
    # Every gap in these records is an hour, so its quantiles say nothing.
    found[NAMES.index("gap_h")] = GAP_KNOTS_H
    return (found + np.arange(SEGMENTS + 1) * 1e-4 * (1 + np.abs(found[:, :1]))).astype(np.float32)


def horizons(labels: Ints, starts: Ints, ends: Ints) -> Floats:
    """What the heads are to say, [N, 4]: the label, the same 6 h and 18 h earlier, and whether it ever comes."""
    wanted = np.zeros((len(labels), len(HEADS)), np.float32)
    wanted[:, 0] = labels
    for start, end in zip(starts, ends, strict=True):
        if labels[start:end].any():
            since = np.arange(end - start) - int(np.argmax(labels[start:end]))
            wanted[start:end, 1], wanted[start:end, 2], wanted[start:end, 3] = since >= -6, since >= -18, 1
    return wanted


def fit_sepsis(
    stays: Stays,
    recipe: SepsisRecipe,
    *,
    seed: int,
    device: str,
    tell: Tell,
    second: Stays | None = None,
    ages: bool = True,
) -> SepsisNet:
    """Learn from stays. The same seed gives the same net on the same machine.

    Args:
        second: other stays, whose label is asked of the same memory by a head that is dropped afterwards.
        ages: False: `age_h` is 0 everywhere in what is given, so what is hidden has none either.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(a, b) for a, b in zip(stays.starts, stays.ends, strict=True)])
    net = SepsisNet(
        torch.from_numpy(knots_of(stays.features[rows])),
        hidden=recipe.hidden, embedding=recipe.embedding, dropout=recipe.dropout, second=second is not None,
    ).to(device)  # fmt: skip
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
    hiding, hidden_as = _hiding(MOST_AGE_H if ages else 0.0)
    others = None if second is None else _batches(second, recipe, np.random.default_rng(seed + 1), device)
    for epoch in range(recipe.epochs):
        net.train()
        if epoch:
            chunks = _chunks(stays, recipe.chunk, rng)
        for first in range(0, len(chunks), recipe.batch):
            some = chunks[first : first + recipe.batch]
            places = some[:, :1] + np.arange(recipe.chunk)
            places = np.where(places < some[:, 1:], places, nowhere)
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
        tell(Step(learner.done, steps, float(loss.detach())))
    if second is not None:
        del learner.kept.second
    return learner.kept.eval()


def _batches(
    stays: Stays, recipe: SepsisRecipe, rng: np.random.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(x, y, which rows are there) of the second task, for ever."""
    features = torch.from_numpy(np.vstack([stays.features, np.full((1, stays.features.shape[1]), np.nan, np.float32)]))
    labels = torch.from_numpy(np.r_[stays.labels, 0].astype(np.float32))
    nowhere = len(labels) - 1
    while True:
        chunks = _chunks(stays, recipe.chunk, rng)
        for first in range(0, len(chunks), recipe.batch):
            some = chunks[first : first + recipe.batch]
            places = some[:, :1] + np.arange(recipe.chunk)
            places = np.where(places < some[:, 1:], places, nowhere)
            yield features[places].to(device), labels[places].to(device), torch.from_numpy(places != nowhere).to(device)


def _chunks(stays: Stays, hours: int, rng: np.random.Generator) -> Ints:
    """(first row, end) of each, cut at a new place each time."""
    found: list[tuple[int, int]] = []
    for start, end in zip(stays.starts.tolist(), stays.ends.tolist(), strict=True):
        for at in range(start - int(rng.integers(0, hours)), end, hours):
            first, last = max(at, start), min(at + hours, end)
            if last - first >= 2:
                found.append((first, last))
    return rng.permutation(np.asarray(found, np.int64))


def _hiding(age_h: float) -> tuple[Tensor, Tensor]:
    """Features that go when a sign, the age or the sex is hidden, [8, F]; and what they are then, [F]."""
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
    """Leave rows out, move the others together, and say how long each gap has become, [B, T]."""
    keep = (rng.random(places.shape) >= share * rng.random((len(places), 1)) * 2) & (places != nowhere)
    keep[:, 0] |= ~keep.any(1)
    order = np.argsort(~keep, axis=1, kind="stable")
    kept = np.take_along_axis(keep, order, 1)
    where = np.where(kept, order, 0)
    gaps = np.diff(where, axis=1, prepend=where[:, :1] - 1).astype(np.float32)
    return np.where(kept, np.take_along_axis(places, order, 1), nowhere), np.where(kept, gaps, 1.0).astype(np.float32)
