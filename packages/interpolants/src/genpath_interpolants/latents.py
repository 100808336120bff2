r"""Latent noises: A(t) z with a matrix A and any smooth law of z.

    x_t = I_t + A(t) z,    A(t) = γ(t) S(t),    z ~ e^{−V(z)} dz,  coordinates independent

γ vanishes at both ends and S does not; S = I and V = |z|²/2 is the usual noise. Differentiating the
kernel e^{−V(A⁻¹(x − I))} under the expectation, and x_t in time,

    s = −A^{−⊤} E[∇V(z) | x]        b = v + E[Ȧ z | x]

For normal z, ∇V(z) = z: one quantity E[z | x] serves both, and b = v − ȦA^⊤ s with
ȦA^⊤ = γγ̇ SS^⊤ + γ² ṠS^⊤, finite at both ends. Any other law needs E[z | x] for b and E[∇V(z) | x]
for s: two quantities.

    law        V′(z) of one coordinate      variance
    gaussian   z                            1
    logistic   tanh(z/2)                    π²/3
    student    (ν+1) z/(ν + z²)             ν/(ν−2)

(Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797, section 2, for the normal scalar case.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, ShapeError
from genpath.schedules import Scalar, scalar
from genpath.states import per_row

from .relations import EDGE

__all__ = ["GaussianLatent", "Latent", "LatentLaw", "LogisticLatent", "StudentLatent", "latent_law"]

MatrixFunction = Callable[[Tensor], Tensor]
"""Times ``(batch,)`` → matrices ``(batch, d, d)``."""


@runtime_checkable
class LatentLaw(Protocol):
    """The law e^{−V} of one coordinate of z; coordinates are independent."""

    @property
    def gaussian(self) -> bool:
        """Whether ∇V(z) = z, so that E[z | x] gives the score too."""
        ...

    def sample(self, like: Tensor, rng: torch.Generator) -> Tensor:
        """Draws of the shape, dtype and device of ``like``."""
        ...

    def gradient(self, z: Tensor) -> Tensor:
        """V′ of each coordinate."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """−V of each coordinate, normalised."""
        ...


@dataclass(frozen=True)
class GaussianLatent:
    """N(0, 1) in each coordinate.

    Example:
        >>> GaussianLatent().gradient(torch.tensor([2.0]))
        tensor([2.])
    """

    gaussian: bool = True

    def sample(self, like: Tensor, rng: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=rng, device=like.device, dtype=like.dtype)

    def gradient(self, z: Tensor) -> Tensor:
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class LogisticLatent:
    """The standard logistic law, density ¼ sech²(z/2): tails e^{−|z|}.

    Example:
        >>> LogisticLatent().gradient(torch.tensor([2.0]))  # tanh 1
        tensor([0.7616])
    """

    gaussian: bool = False

    def sample(self, like: Tensor, rng: torch.Generator) -> Tensor:
        return torch.logit(_uniform(like, rng))

    def gradient(self, z: Tensor) -> Tensor:
        return torch.tanh(0.5 * z)

    def log_prob(self, z: Tensor) -> Tensor:
        return -z.abs() - 2 * torch.log1p(torch.exp(-z.abs()))


@dataclass(frozen=True)
class StudentLatent:
    """Student's t: tails |z|^{−ν−1}.

    Args:
        degrees: ν > 2, so that the velocity's target has a variance.

    Raises:
        DomainError: ν ≤ 2.

    Draws are √(ν(U^{−2/ν} − 1)) cos(2πV), U and V uniform (Bailey 1994).

    Example:
        >>> StudentLatent(3.0).gradient(torch.tensor([1.0]))  # (ν+1) z/(ν + z²)
        tensor([1.])
    """

    degrees: float = 5.0
    gaussian: bool = False

    def __post_init__(self) -> None:
        if not self.degrees > 2:
            raise DomainError("StudentLatent", "degrees > 2.", got=f"degrees {self.degrees:g}")

    def sample(self, like: Tensor, rng: torch.Generator) -> Tensor:
        nu = self.degrees
        radius = (nu * torch.expm1(-2 / nu * _uniform(like, rng).log())).clamp_min(0).sqrt()
        return radius * torch.cos(2 * math.pi * _uniform(like, rng))

    def gradient(self, z: Tensor) -> Tensor:
        return (self.degrees + 1) * z / (self.degrees + z.square())

    def log_prob(self, z: Tensor) -> Tensor:
        nu = self.degrees
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        return constant - 0.5 * (nu + 1) * torch.log1p(z.square() / nu)


def latent_law(name: str, degrees: float = 5.0) -> LatentLaw:
    """A law by its name: gaussian, logistic or student.

    Raises:
        DomainError: another name, or ν ≤ 2.

    Example:
        >>> latent_law("logistic")
        LogisticLatent(gaussian=False)
    """
    if name == "gaussian":
        return GaussianLatent()
    if name == "logistic":
        return LogisticLatent()
    if name == "student":
        return StudentLatent(degrees)
    raise DomainError("latent_law", "it is gaussian, logistic or student.", got=repr(name))


@dataclass(frozen=True, init=False)
class Latent:
    """A(t) z = γ(t) S(t) z and what follows from it.

    Args:
        gamma_squared: γ², 0 at both ends; a function of time or a `Scalar`.
        matrix: S: None for I, a matrix ``(d, d)``, or a function of times ``(batch,)`` with values
            ``(batch, d, d)``; it need not be symmetric. Points are then of shape ``(d,)``.
        law: the law of z.

    Raises:
        DomainError: γ² is negative, is 0 throughout or does not vanish at the ends, or S is
            singular.
        ShapeError: S is not square.

    Where γ̇ is infinite at an end, `rate` uses its value at the time clipped to [EDGE, 1 − EDGE];
    so does `score`, which divides by γ.

    Example:
        >>> noise = Latent(lambda t: t * (1 - t), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        >>> noise.scaled(torch.tensor([0.5]), torch.tensor([[1.0, 2.0]]))
        tensor([[1.5000, 1.0000]])
    """

    gamma_squared: Scalar
    matrix: Tensor | MatrixFunction | None
    law: LatentLaw

    def __init__(
        self,
        gamma_squared: Callable[[Tensor], Tensor] | Scalar,
        matrix: Tensor | MatrixFunction | None = None,
        law: LatentLaw | None = None,
    ) -> None:
        object.__setattr__(self, "gamma_squared", scalar(gamma_squared))
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "law", GaussianLatent() if law is None else law)
        _check_gamma(self.gamma_squared)
        if matrix is not None:
            _check_matrix(self._matrix(torch.linspace(0, 1, 21)))

    @property
    def plain(self) -> bool:
        """Whether it is γ z with normal z."""
        return self.matrix is None and self.law.gaussian

    @property
    def size(self) -> int | None:
        """d, where there is a matrix."""
        if self.matrix is None:
            return None
        return int(self._matrix(torch.tensor([0.5])).shape[-1])

    def check(self, event_shape: tuple[int, ...], where: str) -> None:
        """Refuse points that the matrix does not act on.

        Raises:
            CapabilityError: points are not vectors of its size.
        """
        if self.matrix is not None and event_shape != (self.size,):
            raise CapabilityError(
                where,
                "a (d, d) latent scale acts on points of shape (d,).",
                got=f"d = {self.size}, points of shape {event_shape}",
                fix="choose a matrix of the points' size, or a codec that flattens",
            )

    def gamma(self, t: Tensor) -> Tensor:
        """γ ≥ 0."""
        return self.gamma_squared(t).clamp_min(0).sqrt()

    def half_rate(self, t: Tensor) -> Tensor:
        """γγ̇ = ½ d(γ²)/dt."""
        return 0.5 * self.gamma_squared.rate(t)

    # -- A, Ȧ and their relatives, on rows ------------------------------------------------------

    def scaled(self, t: Tensor, z: Tensor) -> Tensor:
        """A z."""
        return per_row(self.gamma(t), z) * self._times(t, z)

    def rate(self, t: Tensor, z: Tensor) -> Tensor:
        """Ȧ z."""
        inner = t.clamp(EDGE, 1 - EDGE)
        found = per_row(self.half_rate(inner) / self.gamma(inner), z) * self._times(t, z)
        if callable(self.matrix):
            slope = _times(self._slope(t), z)
            found = found + per_row(self.gamma(t), z) * slope
        return found

    def score(self, t: Tensor, gradient: Tensor) -> Tensor:
        """−A^{−⊤} g, g = ∇V(z) or its mean given x."""
        inner = t.clamp(EDGE, 1 - EDGE)
        over = gradient / per_row(self.gamma(inner), gradient)
        if self.matrix is None:
            return -over
        transposed = self._matrix(t).to(over).mT.expand(over.shape[0], -1, -1)
        found: Tensor = -torch.linalg.solve(transposed, over.unsqueeze(-1)).squeeze(-1)
        return found

    def gradient(self, t: Tensor, score: Tensor) -> Tensor:
        """−A^⊤ s: the mean of ∇V(z) from the score."""
        return -per_row(self.gamma(t), score) * self._transposed(t, score)

    def drift(self, t: Tensor, score: Tensor) -> Tensor:
        """−ȦA^⊤ s: for normal z the mean of Ȧ z, from the score, finite at both ends.

        Raises:
            CapabilityError: z is not normal.
        """
        if not self.law.gaussian:
            raise CapabilityError("Latent.drift", "the score gives E[z | x] for a normal z.")
        turned = self._transposed(t, score)
        found: Tensor = -per_row(self.half_rate(t), score) * self._times(t, turned)
        if callable(self.matrix):
            square = per_row(self.gamma_squared(t), score)
            found = found - square * _times(self._slope(t), turned)
        return found

    def carried(self, t: Tensor, y: Tensor) -> Tensor:
        """ȦA⁻¹ y: the flow of y = A z for fixed z; γ̇/γ at the clipped time."""
        inner = t.clamp(EDGE, 1 - EDGE)
        found = per_row(self.half_rate(inner) / self.gamma_squared(inner), y) * y
        if callable(self.matrix):
            z = torch.linalg.solve(self._matrix(t).to(y), y.unsqueeze(-1)).squeeze(-1)
            found = found + _times(self._slope(t), z)
        return found

    # -- the matrix --------------------------------------------------------------------------

    def _matrix(self, t: Tensor) -> Tensor:
        """S, ``(batch, d, d)`` or ``(1, d, d)``."""
        if callable(self.matrix):
            return self.matrix(t)
        assert self.matrix is not None
        return self.matrix[None] if self.matrix.dim() == 2 else self.matrix

    def _slope(self, t: Tensor) -> Tensor:
        """Ṡ."""
        assert callable(self.matrix)
        times = t.contiguous()
        function = self.matrix
        slope: Tensor = torch.func.jvp(
            lambda s: function(s) + 0 * s[:, None, None], (times,), (torch.ones_like(times),)
        )[1]
        return slope

    def _times(self, t: Tensor, z: Tensor) -> Tensor:
        return z if self.matrix is None else _times(self._matrix(t), z)

    def _transposed(self, t: Tensor, z: Tensor) -> Tensor:
        return z if self.matrix is None else _times(self._matrix(t).mT, z)


def _times(matrix: Tensor, z: Tensor) -> Tensor:
    return (matrix.to(z) @ z.unsqueeze(-1)).squeeze(-1)


def _uniform(like: Tensor, rng: torch.Generator) -> Tensor:
    """Uniform on (0, 1), both ends excluded."""
    u = torch.rand(like.shape, generator=rng, device=like.device, dtype=like.dtype)
    tiny = torch.finfo(like.dtype).eps / 4
    return u.clamp(tiny, 1 - 2 * tiny)


def _check_gamma(square: Scalar) -> None:
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    values = square(grid)
    if float(values.min()) < -1e-12:
        raise DomainError("Latent", "γ² ≥ 0 on [0, 1].", got=f"minimum {float(values.min()):g}")
    if float(values.max()) <= 0:
        raise DomainError("Latent", "γ is not 0 throughout.", fix="leave the latent noise out")
    if float(values[[0, -1]].abs().max()) > 1e-6:
        got = f"γ²(0) = {float(values[0]):g}, γ²(1) = {float(values[-1]):g}"
        raise DomainError("Latent", "γ vanishes at t = 0 and t = 1.", got=got)


def _check_matrix(values: Tensor) -> None:
    if values.dim() != 3 or values.shape[-1] != values.shape[-2]:
        raise ShapeError(
            "Latent", "the matrix is (d, d), or (batch, d, d).", got=str(tuple(values.shape))
        )
    sizes = torch.linalg.svdvals(values.detach().double())
    if not bool((sizes[:, -1] > 1e-9 * sizes[:, 0]).all()):
        raise DomainError(
            "Latent",
            "the matrix is invertible at every time.",
            got=f"least singular value {float(sizes[:, -1].min()):g}",
        )
