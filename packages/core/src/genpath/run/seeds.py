r"""Seeds: all randomness of a run follows from (seed, purpose, step).

    derive(seed, purpose, step) = high · 2³² + mix(step ⊕ key)

    high   32 bits of SHA-256(seed, purpose, step)
    key    32 bits of SHA-256(seed, purpose)
    mix    the finaliser of MurmurHash3 (A. Appleby, public domain), a bijection of 32-bit words

The state of no random generator is ever stored: a run that goes on at step k makes the generator of
step k again. The lower half is a bijection of the step, because torch's CPU generator (mt19937)
reads only the lower 32 bits of a seed: with independent ones, a hundred thousand steps would expect
one repeated batch; like this, no two of the first 2³² steps of one purpose share it. The CUDA
generator (Philox) reads all 64 bits.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["derive_seed", "generator_for"]

_WORD = 0xFFFFFFFF


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 64-bit seed for one step of one purpose; its lower half differs for any two steps.

    Args:
        seed: the run's seed.
        purpose: what it is for: "train", "validation", "sample", …
        step: the step, non-negative.

    Example:
        >>> derive_seed(0, "train", 1) == derive_seed(0, "train", 1)
        True
        >>> len({derive_seed(0, "train", step) & 0xFFFFFFFF for step in range(1000)})
        1000
    """
    key = _hash(f"{seed}/{purpose}")
    high = _hash(f"{seed}/{purpose}/{step}")
    return (high << 32) | _mix((step ^ key) & _WORD)


def generator_for(
    seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """The random generator of one step of one purpose.

    Example:
        >>> a, b = generator_for(0, "train", 1), generator_for(0, "train", 1)
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose, step))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _mix(word: int) -> int:
    word ^= word >> 16
    word = word * 0x85EBCA6B & _WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 & _WORD
    return word ^ (word >> 16)
