"""The table of collapses: which of 100 compositions of heterogeneous experts exist."""

import itertools
import math

import pytest
import torch

from genpath_compose.certificates import certify
from genpath_compose.experts import FieldExpert
from genpath_compose.repairs import repair
from genpath_compose.tails import Tail

DOUBLE = torch.float64
TIMES = torch.linspace(0, 0.99, 200, dtype=DOUBLE)


def softplus(t):
    soft = torch.nn.functional.softplus(12 * ((1 - t) - 0.5))
    return torch.sqrt(1 - torch.exp(-((20 / 12) * soft + 0.001 * (1 - t))))


ALPHAS = {
    "linear": lambda t: 1 - t,
    "square": lambda t: 1 - t**2,
    "softplus": softplus,
    "exponential": lambda t: torch.sqrt(torch.exp(-0.5 * (0.1 * t + 9.95 * t**2))),
    "cosine": lambda t: torch.cos(0.5 * math.pi * t),
}
TRIPLES = [t for t in itertools.product(ALPHAS, repeat=3) if t[1] != t[2]]


def precision(name, t):
    return 1 / (ALPHAS[name](t) ** 2 + 1e-12)


def expert(name, role):
    tail = Tail(lambda t: precision(name, t)[:, None, None])
    return FieldExpert(lambda t, x: (x, -x), (1,), f"{role}: {name}", tail=tail)


def composition(names, omega):
    a, b, c = (expert(name, role) for name, role in zip(names, "abc", strict=True))
    return a * (b / c) ** omega


def direct(names, omega):
    """min C on the 200 times, by the formula."""
    a, b, c = (precision(name, TIMES) for name in names)
    return float((a + omega * b - omega * c).min())


@pytest.mark.parametrize(("omega", "published"), [(1.0, 41), (2.0, 66), (15.0, 80)])
def test_certificates_count_what_was_published(omega, published):
    assert len(TRIPLES) == 100
    found = {names: certify(composition(names, omega), TIMES.tolist()) for names in TRIPLES}
    least = {names: direct(names, omega) for names in TRIPLES}
    assert sum(value < 0 for value in least.values()) == published
    assert sum(c.status == "collapses" for c in found.values()) == published
    for names, certificate in found.items():
        expected = "collapses" if least[names] < 0 else "exists"
        assert certificate.status == expected, names
        assert certificate.minimum <= least[names] + 1e-9  # also between the times


def test_what_starts_as_a_law_is_repaired():
    omega, counted = 2.0, {"mended": 0, "exists": 0}
    for names in TRIPLES[::7]:
        broken = composition(names, omega)
        start = float(sum(g(TIMES[:1]) * precision(n, TIMES[:1])
                          for g, n in zip(broken.exponents, names, strict=True)))  # fmt: skip
        assert start > 0  # ω/α2² and ω/α3² cancel where every α(0) is 1, or nearly
        found = repair(broken, margin=0.1 * start)
        counted["mended" if found.bumps else "exists"] += 1
        assert found.after.keeps_margin, names
    assert min(counted.values()) > 0
