"""The rhythm networks and their training.

Two different nets classify the same recording; their log-probabilities are averaged. *Waves*: a strided residual CNN,
a bidirectional LSTM over frames of 0.16 s, and attention (after Paragliola and Coronato, J Biomed Inform 117:103754,
2021). *Beats*: an MLP on each R-aligned beat with its intervals, then a bidirectional LSTM over beats.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.rhythm import CLASSES
from models.rhythm_signal import BEAT_FEATURES, RATE_HZ, Ecg
from models.training.learning import Learner
from models.training.progress import OnStep, Step

CROP_S: Final = 30
"""Maximum length of a crop in training; predictions use the whole recording."""
Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Net = TypeVar("Net", bound=nn.Module)
Batches: TypeAlias = Callable[[], Iterator[tuple[tuple[Tensor, ...], Tensor]]]


class RhythmRecipe(NamedTuple):
    """Hyperparameters of the rhythm nets. The model card lists the variants that were tried."""

    wave_epochs: int = 24
    beat_epochs: int = 24
    batch: int = 64
    rate: float = 3e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.05
    prior_power: float = -0.3  # class weight = prior^this
    average: float = 0.997  # decay of the moving average of the weights


class _Residual(nn.Module):
    """Two convolutions with a shortcut; the first one halves the time resolution."""

    def __init__(self, ins: int, outs: int, width: int = 7) -> None:
        super().__init__()
        self.one = nn.Conv1d(ins, outs, width, stride=2, padding=width // 2, bias=False)
        self.norm_one = nn.BatchNorm1d(outs)
        self.two = nn.Conv1d(outs, outs, width, padding=width // 2, bias=False)
        self.norm_two = nn.BatchNorm1d(outs)
        self.shortcut = nn.Conv1d(ins, outs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm_two(self.two(functional.relu(self.norm_one(self.one(x)))))
        return functional.relu(inside + self.shortcut(x))


class _Attention(nn.Module):
    """Weighted mean and maximum over time: from [B, T, F] to [B, 2F]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Linear(features, 1)

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        weight = self.weight(x)
        top = x
        if there is not None:
            weight = weight.masked_fill(~there[..., None], -1e4)
            top = x.masked_fill(~there[..., None], -1e4)
        return torch.cat([(torch.softmax(weight, 1) * x).sum(1), top.amax(1)], -1)


class WaveNet(nn.Module):
    """From waves [B, 1, T] at 100 Hz to logits [B, 4]."""

    def __init__(self, channels: tuple[int, ...] = (16, 32, 48, 68), hidden: int = 60) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, channels[0], 11, stride=2, padding=5, bias=False)
        self.norm = nn.BatchNorm1d(channels[0])
        self.stages = nn.Sequential(*(_Residual(a, b) for a, b in pairwise(channels)))
        self.order = nn.LSTM(channels[-1], hidden, batch_first=True, bidirectional=True)
        self.look = _Attention(2 * hidden)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * hidden, len(CLASSES))

    def forward(self, wave: Tensor) -> Tensor:
        frames = self.stages(functional.relu(self.norm(self.stem(wave)))).transpose(1, 2)
        ordered, _ = self.order(self.drop(frames))
        return self.head(self.drop(self.look(ordered)))


class BeatNet(nn.Module):
    """From beats [B, K, BEAT_FEATURES] to logits [B, 4]."""

    def __init__(self, inside: int = 96, out: int = 64, hidden: int = 68) -> None:
        super().__init__()
        self.one = nn.Linear(BEAT_FEATURES, inside)
        self.two = nn.Linear(inside, out)
        self.order = nn.LSTM(out, hidden, batch_first=True, bidirectional=True)
        self.look = _Attention(2 * hidden)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(4 * hidden, len(CLASSES))

    def forward(self, beats: Tensor, lengths: Tensor | None = None) -> Tensor:
        inside = functional.relu(self.two(self.drop(functional.relu(self.one(beats)))))
        if lengths is None:
            ordered, _ = self.order(inside)
            return self.head(self.drop(self.look(ordered)))
        packed = nn.utils.rnn.pack_padded_sequence(inside, lengths.cpu(), batch_first=True, enforce_sorted=False)
        ordered, _ = nn.utils.rnn.pad_packed_sequence(self.order(packed)[0], batch_first=True)
        there = torch.arange(ordered.shape[1], device=beats.device)[None] < lengths.to(beats.device)[:, None]
        return self.head(self.drop(self.look(ordered, there)))


class RhythmNet(nn.Module):
    """Both nets: from a wave [1, 1, T] and beats [1, K, BEAT_FEATURES] to log-probabilities [1, 4]."""

    def __init__(self, waves: WaveNet, beats: BeatNet) -> None:
        super().__init__()
        self.waves, self.beats = waves, beats

    def forward(self, wave: Tensor, beats: Tensor) -> Tensor:
        both = torch.log_softmax(self.waves(wave), -1) + torch.log_softmax(self.beats(beats), -1)
        return torch.log_softmax(both / 2, -1)


def fit_waves(
    ecgs: list[Ecg],
    labels: Ints,
    recipe: RhythmRecipe,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
) -> WaveNet:
    """Train the wave net. The same seed gives the same net on the same machine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    waves = [ecg.wave.astype(np.float32) for ecg in ecgs]
    lengths = np.array([len(wave) for wave in waves])

    def batches() -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        for chosen in _alike(lengths, recipe.batch, rng):
            size = min(int(lengths[chosen].min()), CROP_S * RATE_HZ)
            crops = np.stack([_crop(waves[at], size, rng) for at in chosen])
            yield (_varied(torch.from_numpy(crops)[:, None], rng).to(device),), torch.from_numpy(labels[chosen])

    return _fit(WaveNet().to(device), batches, labels, recipe.wave_epochs, recipe, on_step)


def fit_beats(
    ecgs: list[Ecg],
    labels: Ints,
    recipe: RhythmRecipe,
    *,
    seed: int,
    device: str,
    on_step: OnStep,
) -> BeatNet:
    """Train the beat net, without recordings of fewer than two beats."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    beats = [ecg.beats.astype(np.float32) for ecg in ecgs]
    with_beats = np.flatnonzero([len(chosen_beats) >= 2 for chosen_beats in beats])

    def batches() -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        order = rng.permutation(with_beats)
        for first in range(0, len(order), recipe.batch):
            chosen = order[first : first + recipe.batch]
            chosen_beats = [_beat_crop(beats[at], rng) for at in chosen]
            yield (
                (
                    nn.utils.rnn.pad_sequence(chosen_beats, batch_first=True).to(device),
                    torch.tensor([len(x) for x in chosen_beats]),
                ),
                torch.from_numpy(labels[chosen]),
            )

    return _fit(BeatNet().to(device), batches, labels, recipe.beat_epochs, recipe, on_step)


def _fit(net: Net, batches: Batches, labels: Ints, epochs: int, recipe: RhythmRecipe, on_step: OnStep) -> Net:
    device = next(net.parameters()).device
    prior = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    weight = torch.tensor(np.maximum(prior, 1e-3) ** recipe.prior_power, dtype=torch.float32, device=device)
    loss_of = nn.CrossEntropyLoss(weight / weight.mean(), label_smoothing=recipe.smoothing)
    steps = epochs * (len(labels) // recipe.batch + 2)
    learner = Learner(net, rate=recipe.rate, weight_decay=recipe.weight_decay, steps=steps, average=recipe.average)
    for _ in range(epochs):
        net.train()
        for inputs, wanted in batches():
            # bfloat16 halves the time of a step; weights and loss stay float32.
            with torch.autocast(device.type, torch.bfloat16):
                logits = net(*inputs)
            loss = loss_of(logits.float(), wanted.to(device))
            learner.learn(loss)
        on_step(Step(learner.done, steps, float(loss.detach())))
    return learner.kept.eval()


def _alike(lengths: Ints, batch: int, rng: np.random.Generator) -> list[Ints]:
    """Batches of recordings of similar length, so that no padding and little cropping is needed."""
    order = np.argsort(np.minimum(lengths, CROP_S * RATE_HZ) + rng.uniform(0, 150, len(lengths)))
    cut = [order[first : first + batch] for first in range(0, len(order), batch)]
    return [cut[at] for at in rng.permutation(len(cut))]


def _crop(wave: Floats, size: int, rng: np.random.Generator) -> Floats:
    first = int(rng.integers(0, len(wave) - size + 1))
    return wave[first : first + size]


def _beat_crop(beats: Floats, rng: np.random.Generator) -> Tensor:
    keep = int(rng.integers(max(2, len(beats) * 3 // 5), len(beats) + 1))
    first = int(rng.integers(0, len(beats) - keep + 1))
    chosen_beats = beats[first : first + keep].copy()
    chosen_beats[:, : BEAT_FEATURES - 6] *= rng.choice([1.0, -1.0], p=[0.7, 0.3]) * rng.uniform(0.85, 1.15)
    chosen_beats[:, : BEAT_FEATURES - 6] += rng.normal(0, 0.02, (len(chosen_beats), BEAT_FEATURES - 6))
    chosen_beats[:, BEAT_FEATURES - 6 : BEAT_FEATURES - 4] += rng.uniform(-0.08, 0.08)  # vary the heart rate slightly
    return torch.from_numpy(chosen_beats)


def _varied(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Augmented waves, [B, 1, T]: random stretch, gain, inversion, noise and baseline wander."""
    size = waves.shape[-1]
    waves = functional.interpolate(waves, size=round(size * rng.uniform(0.95, 1.05)), mode="linear")
    many, _, size = waves.shape
    gain = rng.uniform(0.8, 1.2, (many, 1, 1)) * rng.choice([1.0, -1.0], (many, 1, 1), p=[0.7, 0.3])
    noise = rng.standard_normal((many, 1, size), dtype=np.float32) * rng.uniform(0, 0.05, (many, 1, 1))
    time_s = np.arange(size) / RATE_HZ
    wander = np.sin(2 * np.pi * (rng.uniform(0.1, 0.6, (many, 1, 1)) * time_s + rng.uniform(0, 1, (many, 1, 1))))
    wander *= rng.uniform(0, 0.1, (many, 1, 1))
    return waves * torch.from_numpy(gain.astype(np.float32)) + torch.from_numpy((noise + wander).astype(np.float32))
