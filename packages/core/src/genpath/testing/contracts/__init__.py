r"""Contracts: the claims that come with a kind, for an instance that the author gives.

A contract is a function from an instance (and an independent oracle, where the kind needs one) to
claims with their controls. An author writes the instance and inherits the checks.
"""

from __future__ import annotations

from .codecs import codec as codec
from .conversions import conversions as conversions
from .couplings import coupling as coupling
from .generators import generator as generator
from .kernels import Sample as Sample, kernel as kernel, launcher as launcher
from .laws import law as law, line as line
from .naming import named as named
from .networks import network as network
from .objectives import objective as objective
from .paths import path as path
from .samplers import sampler as sampler
from .schedules import schedule as schedule
from .spaces import space as space

__all__ = [
    "Sample",
    "codec",
    "conversions",
    "coupling",
    "generator",
    "kernel",
    "launcher",
    "law",
    "line",
    "named",
    "network",
    "objective",
    "path",
    "sampler",
    "schedule",
    "space",
]
