"""Classifier-free guidance, naive and corrected: exact normal laws, and digits.

    pip install scikit-learn matplotlib
    python examples/compose/guidance_digits.py --out runs/guidance_digits

Guidance of strength w moves along s_c + w (s_c − s_∅). Its particles do not end in the law that it
names, q_c^{1+w}/q_∅^w ∝ q_c(x) p(c|x)^w: without weights the motion has another law. The corrector
is one number per particle, d log w = ½σ² w(1+w) |s_c − s_∅|² dt, and resampling.

First on the line, where both laws are normal and every number is known: the correction is right.
Then with a network that is trained here on 8 × 8 digits, with and without their labels. There the
target is near q_c, since digits are told apart; real images of the class are a reference, and what
is seen is a limit of correction. Near the data a label adds nothing to an image, so that
s_c − s_∅ should vanish; between two learned scores it does not, the weights count this difference
as if it were meant, and few first particles keep descendants. The size of it is printed: look at
it, at the ESS and at the lineages before weights of learned scores are believed. Two minutes on
one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genpath import TimeGrid
from genpath.schedules import Scalar
from genpath_compose.correctors import Guidance
from genpath_compose.distances import energy_distance
from genpath_compose.foreign import ForeignExpert
from genpath_compose.smc import Resample, run_particles
from genpath_compose.snr import SnrSchedule

NULL = 10
"""The label of no label."""

LOW, HIGH = -8.0, 7.0
SCHEDULE = SnrSchedule(Scalar(lambda t: LOW + (HIGH - LOW) * t, lambda t: 0 * t + (HIGH - LOW)))
STRENGTHS = (0.0, 1.0, 3.0)
WAYS = ("naive", "corrected")


def draws(
    conditional: ForeignExpert,
    unconditional: ForeignExpert,
    w: float,
    way: str,
    sizes: tuple[int, int],
    rng: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Samples of equal weight, and what is known of the run; ``sizes``: particles and steps."""
    corrector, pair = Guidance(w), [conditional.diffusion(), unconditional.diffusion()]
    law, _ = corrector.start(pair)
    found = run_particles(
        corrector.generator(pair),
        {"x": law.sample(sizes[0], rng)},
        TimeGrid.uniform(sizes[1]),
        rng,
        resample=Resample(when="never" if way == "naive" else "ess"),
    )
    if way == "naive":  # the same motion; the weights are dropped
        return found.state["x"], {}
    facts = {"ess": float(found.ess.min()) / sizes[0], "lineages": float(found.lineages())}
    return found.draw(sizes[0], rng)["x"], facts


# -- on the line -----------------------------------------------------------------------------------


def normal(mean: float, std: float, name: str) -> ForeignExpert:
    """N(mean, std²) as data: E[x0 | x_t] in closed form."""

    def noise(t: Tensor, x: Tensor) -> Tensor:
        alpha, beta, _ = (c[:, None] for c in SCHEDULE.coefficients(t))
        return alpha * (x - beta * mean) / (alpha**2 + beta**2 * std**2)

    return ForeignExpert(noise, SCHEDULE, (1,), name)


def on_the_line(count: int) -> None:
    """q_c = N(1, .5²), q_∅ = N(0, 1): the target is normal with precision 4 (1+w) − w."""
    conditional, unconditional = normal(1.0, 0.5, "conditional"), normal(0.0, 1.0, "unconditional")
    print("normal laws:  w   target mean, std     naive             corrected")
    for w in STRENGTHS[1:]:
        precision = 4 * (1 + w) - w
        target = (4 * (1 + w) / precision, precision**-0.5)
        rng, words = torch.Generator().manual_seed(0), []
        for way in WAYS:
            x = draws(conditional, unconditional, w, way, (count, 400), rng)[0]
            words.append(f"{float(x.mean()):.4f}, {float(x.std()):.4f}")
        print(f"{w:15g}   {target[0]:.4f}, {target[1]:.4f}       {words[0]}    {words[1]}")


# -- digits ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images ``(n, 64)`` in [−1, 1] with their labels."""

    images: Tensor
    labels: Tensor

    def of(self, label: int) -> Tensor:
        """Those of one class."""
        return self.images[self.labels == label]


def data() -> Digits:
    """The digits of scikit-learn, which come with it."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return Digits(torch.from_numpy(images).float() / 8 - 1, torch.from_numpy(labels).long())


class Network(nn.Module):
    """ε(x, λ, label): a residual MLP."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.label = nn.Embedding(11, width)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(),
                          nn.Linear(width, width))
            for _ in range(3)
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        angles = t[:, None] * torch.pi * 2.0 ** torch.arange(-1, 7, device=t.device)
        known = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(label)
        hidden = self.first(x)
        for block in self.blocks:
            hidden = hidden + block(hidden + known)
        found: Tensor = self.last(hidden)
        return found


@torch.enable_grad()
def trained(digits: Digits, steps: int, seed: int = 0) -> Network:
    """ε of the schedule by least squares; a fifth of the labels are dropped."""
    torch.manual_seed(seed)
    network, rng = Network(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.randint(len(digits.images), (256,), generator=rng)
        x1, label = digits.images[index], digits.labels[index]
        label = torch.where(torch.rand(256, generator=rng) < 0.2, NULL, label)
        t, eps = torch.rand(256, generator=rng), torch.randn(256, 64, generator=rng)
        alpha, beta, _ = (c[:, None] for c in SCHEDULE.coefficients(t))
        loss = (network(alpha * eps + beta * x1, t, label) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    print(f"network: {steps} steps, loss {float(loss.detach()):.3f}")
    return network.eval().requires_grad_(False)


def expert(network: Network, label: int) -> ForeignExpert:
    """The network with one label, or none."""

    def noise(t: Tensor, x: Tensor) -> Tensor:
        found: Tensor = network(x, t, torch.full((len(x),), label))
        return found

    return ForeignExpert(noise, SCHEDULE, (64,), "none" if label == NULL else str(label))


def classifier(digits: Digits) -> Any:
    """Support vectors on the real images: it does not know the network."""
    from sklearn.svm import SVC

    return SVC(gamma=0.03, C=10.0).fit(digits.images.numpy(), digits.labels.numpy())


def spread(x: Tensor) -> float:
    """The mean distance between two of the images."""
    return float(torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)))


def measured(x: Tensor, label: int, digits: Digits, judge: Any) -> dict[str, float]:
    """Numbers of one class's samples beside its real images."""
    real = digits.of(label)
    return {
        "accuracy": float((judge.predict(x.numpy()) == label).mean()),
        "diversity": spread(x) / spread(real),
        "energy distance": energy_distance(x, real),
    }


def disagreement(network: Network, digits: Digits) -> None:
    """|ε_c − ε_∅|² on noised images: 0 near the data, if the network were right."""
    rng, words = torch.Generator().manual_seed(0), []
    for time_ in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        t = torch.full((len(digits.images),), time_)
        alpha, beta, _ = (c[:, None] for c in SCHEDULE.coefficients(t))
        noise = torch.randn(digits.images.shape, generator=rng)
        x = alpha * noise + beta * digits.images
        gap = network(x, t, digits.labels) - network(x, t, torch.full_like(digits.labels, NULL))
        words.append(f"{float(gap.square().sum(1).mean()):.2f} at {time_:g}")
    print("|ε_c − ε_∅|² of 64, at t: " + ", ".join(words))


def with_digits(out: Path, particles: int, steps: int, training: int) -> None:
    """All classes, strengths and ways."""
    digits = data()
    judge, network = classifier(digits), trained(digits, training)
    unconditional, rows = expert(network, NULL), dict[str, Tensor]()
    disagreement(network, digits)
    print("digits, means over 10 classes; diversity: of real images = 1")
    for w in STRENGTHS:
        for way in WAYS[:1] if w == 0 else WAYS:
            rng, found, shown = torch.Generator().manual_seed(1), list[dict[str, float]](), []
            for label in range(10):
                sizes = (particles, steps)
                x, facts = draws(expert(network, label), unconditional, w, way, sizes, rng)
                found.append(measured(x, label, digits, judge) | facts)
                shown.append(x[torch.randperm(len(x), generator=rng)[:8]])
            words = ", ".join(
                f"{name} {sum(one[name] for one in found) / 10:.3g}" for name in found[0]
            )
            print(f"  w = {w:g}, {way}: {words}")
            rows[f"w = {w:g}, {way}"] = torch.stack(shown)
    picture(rows, out / "guidance_digits.png")


def picture(rows: dict[str, Tensor], path: Path) -> None:
    """Ten rows of eight samples for each setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(rows), 3.6), layout="constrained")
    axes = figure.subplots(1, len(rows))
    for axis, (title, images) in zip(axes, rows.items(), strict=True):
        tiles = images.reshape(10, 8, 8, 8).permute(0, 2, 1, 3).reshape(80, 64)
        axis.imshow(tiles.numpy(), cmap="Greys", vmin=-1, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    print(f"pictures: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/guidance_digits"))
    parser.add_argument("--fast", action="store_true", help="few steps: does it run?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    sizes = (32, 10, 30) if options.fast else (256, 100, 4000)
    with torch.no_grad():
        on_the_line(2000 if options.fast else 50_000)
        with_digits(options.out, *sizes)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
