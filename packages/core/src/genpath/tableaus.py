r"""Butcher tableaus: Runge–Kutta methods as data that refuses to be wrong.

k_i = u(t + c_i h, x + h Σ_{j<i} a_ij k_j),     x ← x + h Σ b_i k_i
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import DomainError

__all__ = ["EULER", "HEUN", "MIDPOINT", "RK4", "Tableau"]


@dataclass(frozen=True)
class Tableau:
    """The coefficients of an explicit Runge–Kutta method; it refuses to be wrong.

    Args:
        a: strictly lower triangular rows, one per stage.
        b: weights.
        c: nodes.
        order: 1 to 4; all order conditions up to it are checked when it is built.

    Raises:
        DomainError: the first condition that fails, by its formula.

    Example:
        >>> Tableau(((), (1.0,)), (1.0, 0.0), (0.0, 1.0), 2)
        Traceback (most recent call last):
        ...
        genpath.errors.DomainError: Tableau: order 2 needs Σ bᵢcᵢ = 1/2.
          got   0
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        stages = len(self.b)
        if [len(row) for row in self.a] != list(range(stages)) or len(self.c) != stages:
            raise DomainError("Tableau", "row i of `a` has i entries, `b` and `c` one per stage.")
        if not 1 <= self.order <= 4:
            raise DomainError("Tableau", "order is 1, 2, 3 or 4.", got=str(self.order))
        full = torch.zeros(stages, stages, dtype=torch.float64)
        for i, row in enumerate(self.a):
            full[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        b = torch.tensor(self.b, dtype=torch.float64)
        c = torch.tensor(self.c, dtype=torch.float64)
        conditions = [
            (1, "Σⱼ aᵢⱼ = cᵢ", float((full.sum(1) - c).abs().max()), 0.0),
            (1, "Σ bᵢ = 1", float(b.sum()), 1.0),
            (2, "Σ bᵢcᵢ = 1/2", float(b @ c), 1 / 2),
            (3, "Σ bᵢcᵢ² = 1/3", float(b @ c**2), 1 / 3),
            (3, "Σ bᵢaᵢⱼcⱼ = 1/6", float(b @ full @ c), 1 / 6),
            (4, "Σ bᵢcᵢ³ = 1/4", float(b @ c**3), 1 / 4),
            (4, "Σ bᵢcᵢaᵢⱼcⱼ = 1/8", float((b * c) @ full @ c), 1 / 8),
            (4, "Σ bᵢaᵢⱼcⱼ² = 1/12", float(b @ full @ c**2), 1 / 12),
            (4, "Σ bᵢaᵢⱼaⱼₖcₖ = 1/24", float(b @ full @ full @ c), 1 / 24),
        ]
        for order, formula, value, expected in conditions:
            if order <= self.order and abs(value - expected) > 1e-12:
                raise DomainError("Tableau", f"order {order} needs {formula}.", got=f"{value:g}")


EULER = Tableau(((),), (1.0,), (0.0,), 1)
MIDPOINT = Tableau(((), (0.5,)), (0.0, 1.0), (0.0, 0.5), 2)
HEUN = Tableau(((), (1.0,)), (0.5, 0.5), (0.0, 1.0), 2)
RK4 = Tableau(
    ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0), 4
)
