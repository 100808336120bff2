r"""Claims of the core's laws: Gaussian, rows of a data set, products.

For ρ = N(m, s²) and r = N(n, q²) on the line, with H the cross-entropy −∫ ρ log r:

    H(ρ) = ½ log(2πe s²)      KL(ρ‖r) = log(q/s) + (s² + (m−n)²)/(2q²) − ½      H(ρ‖r) = H(ρ) + KL
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from genpath.codecs import Standardise
from genpath.components import data_law, dataset as second
from genpath.datasets import Dataset
from genpath.laws import Empirical, Gaussian, ProductLaw, gaussian
from genpath.spaces import Euclidean, Product
from genpath.states import map_state
from genpath.testing import Claim, Evidence, Trial, but, contracts, dial, equal

__all__ = ["composed", "data", "dataset", "normal"]

DOUBLE = torch.float64


def normal() -> tuple[Claim[Any], ...]:
    """Claims of ``law.gaussian``."""
    number = contracts.law(
        lambda: Gaussian((), 0.5, 0.7, DOUBLE),
        space=Euclidean(),
        nodes=contracts.line(-7.0, 8.0),
    )
    plane = contracts.law(
        lambda: Gaussian((2, 2), -0.3, 1.6, DOUBLE),
        space=Euclidean(2, 2),
        proposal=Gaussian((2, 2), 0.0, 2.0, DOUBLE),
    )
    return (*number, *contracts.named("matrix", plane), _entropy())


def _entropy() -> Claim[Any]:
    mean, std = 0.5, 0.7

    def make() -> Gaussian:
        law = gaussian(Euclidean(), mean, std)
        return Gaussian(law.event_shape, law.mean, law.std, DOUBLE)

    def check(law: Any, trial: Trial) -> Iterator[Evidence]:
        other = Gaussian((), -0.4, 1.3, DOUBLE)
        x, weights = contracts.line(-7.0, 8.0)(32)

        def cross(r: Any) -> torch.Tensor:
            total: torch.Tensor = (weights * law.log_prob(x).exp() * r.log_prob(x)).sum()
            return -total

        entropy = 0.5 * math.log(2 * math.pi * math.e * std**2)
        divergence = math.log(1.3 / std) + (std**2 + 0.9**2) / (2 * 1.3**2) - 0.5
        yield equal("H(ρ)", cross(law), entropy, operations=4096)
        yield equal("H(ρ‖r) = H(ρ) + KL(ρ‖r)", cross(other), entropy + divergence, operations=4096)

    return Claim(
        "cross-entropy",
        "By quadrature of its log-density, entropy and cross-entropy of the normal law are the "
        "closed forms; they differ by the Kullback–Leibler divergence.",
        make,
        check,
        (dial("log p + δ", lambda law, d: but(law, log_prob=lambda x: law.log_prob(x) + d)),),
        formula=r"H(\rho \,\|\, r) = \mathrm{KL}(\rho \,\|\, r) + H(\rho)",
        entries=("L1.7",),
    )


ROWS = {
    "x": torch.tensor([0.0, 0.0, 1.5, -2.0, 3.0], dtype=DOUBLE),
    "label": torch.tensor([0, 1, 1, 2, 2]),
}


def data() -> tuple[Claim[Any], ...]:
    """Claims of ``law.data``."""
    found = contracts.law(
        lambda: data_law(Empirical(ROWS)),
        cells=lambda: ROWS,
        probabilities=lambda: torch.full((5,), 0.2, dtype=DOUBLE),
    )
    return found


def dataset() -> tuple[Claim[Any], ...]:
    """Claims of ``law.dataset``."""
    rows = torch.tensor([[0.0], [1.0], [4.0]], dtype=DOUBLE)

    def make() -> Any:
        encoded = Standardise(torch.tensor([1.0], dtype=DOUBLE), torch.tensor([2.0], dtype=DOUBLE))
        source = Dataset("other", Euclidean(1), rows[:1], rows, rows[:1], "made up")
        law = second(source, "validation", encoded)
        return Empirical(map_state(torch.Tensor.double, law.rows))

    return contracts.law(
        make,
        cells=lambda: (rows - 1) / 2,
        probabilities=lambda: torch.full((3,), 1 / 3, dtype=DOUBLE),
    )


SPACE = Product({"x": Euclidean(2), "y": Euclidean()})


def _product() -> ProductLaw:
    factors = {"x": Gaussian((2,), 1.0, 0.5, DOUBLE), "y": Gaussian((), 0.0, 2.0, DOUBLE)}
    return ProductLaw({**factors})


def composed() -> tuple[Claim[Any], ...]:
    """Claims of the laws that no config names: `Empirical` and `ProductLaw`."""
    rows = contracts.law(
        lambda: Empirical(ROWS),
        cells=lambda: ROWS,
        probabilities=lambda: torch.full((5,), 0.2, dtype=DOUBLE),
    )
    both = contracts.law(
        _product,
        space=SPACE,
        proposal=ProductLaw({"x": Gaussian((2,), 1.0, 0.8, DOUBLE),
                             "y": Gaussian((), 0.0, 3.0, DOUBLE)}),
    )  # fmt: skip
    return (*contracts.named("empirical", rows), *contracts.named("product", both))
