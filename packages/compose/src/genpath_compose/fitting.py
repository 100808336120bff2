r"""Fitting: the smallest bumps of exponents for which C ≥ δ.

    C̃(u; t) = C(u; t) + Σ_m B_m s_m(t) κ_{j(m)}(u; t) ≥ δ        at all t, in all directions u

is linear in the sizes B. One size is the largest of the quotients (δ − C)/(κ_j s); several are the
solution of a linear programme, with the mean of b + |ḃ| as the cost. The rows are the times of a
grid with the axes, or with the eigenvectors and directions of `genpath_compose.precisions`; where
C̃ < δ is found between them, rows are added, until there is none left (course, L8.13, H8.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bumps import Bump, Shape, quadratic
from .certificates import dips
from .compositions import Composition
from .errors import RepairError
from .precisions import EffectivePrecision, Levels

__all__ = ["Problem", "fit_bump"]

Floor = float | Callable[[Tensor], Tensor]
"""δ: a number, or a function of times."""


def fit_bump(
    composition: Composition,
    term: int | None = None,
    shape: Shape | None = None,
    *,
    margin: Floor = 0.0,
    t_start: float = 0.0,
    t_end: float = 0.99,
) -> Bump:
    """The smallest bump of one exponent with C ≥ δ on [t_start, t_end].

    B = max over t and directions of (δ − C)/(κ_j · shape), where C < δ. On a path that exists, a
    larger δ raises C further, to concentrate the laws between.

    Args:
        composition: its experts have tails.
        term: whose exponent; of those that are positive the one whose bump is least if None.
        shape: `quadratic` if None.
        margin: δ, a number or a function of times.
        t_start, t_end: where C ≥ δ is asked for.

    Raises:
        RepairError: no size does it, with the reason.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> from genpath_compose.tails import Tail
        >>> one = Tail(lambda t: torch.ones_like(t)[:, None, None])
        >>> dip = Tail(lambda t: 1 / ((1 - t) ** 2 + t**2)[:, None, None])
        >>> a, b = (FieldExpert(lambda t, x: (x, -x), (1,), n, tail=p) for n, p in
        ...         (("a", one), ("b", dip)))
        >>> round(fit_bump(a / b**0.7, 0).size, 6)  # 4(2ω − 1)
        1.6
    """
    shape = quadratic() if shape is None else shape
    chosen = numerators(composition, t_start) if term is None else [term]
    found, reason = list[Bump](), None
    for index in chosen:
        problem = Problem(composition, ((index, shape),), margin, t_start, t_end)
        try:
            found.append(problem.solved()[0])
        except RepairError as error:
            reason = reason or error
    if not found:
        if reason is not None:
            raise reason
        raise RepairError("fit_bump", "a term has a positive exponent.", got=str(composition))
    return min(found, key=lambda b: b.size)


def numerators(composition: Composition, t: float) -> list[int]:
    """The terms whose exponent is positive at t."""
    return [i for i, power in enumerate(composition.powers(t)) if power > 0]


@dataclass(frozen=True)
class Problem:
    """Sizes B ≥ 0 of bumps, the least for which C + Σ B κ shape ≥ δ.

    Args:
        composition: to be repaired.
        columns: the bumps that may be used: term and shape.
        margin: δ.
        t_start, t_end: where.
    """

    composition: Composition
    columns: tuple[tuple[int, Shape], ...]
    margin: Floor
    t_start: float
    t_end: float

    def floor(self, t: Tensor) -> Tensor:
        """δ at times ``(T,)``."""
        if callable(self.margin):
            return self.margin(t)
        return torch.full_like(t, float(self.margin))

    def solved(self) -> tuple[Bump, ...]:
        """The bumps, each with its size."""
        form = EffectivePrecision(self.composition)
        times = torch.linspace(self.t_start, self.t_end, 401, dtype=torch.float64)
        fine = torch.linspace(self.t_start, self.t_end, 4001, dtype=torch.float64)
        self._examine(form, times)
        gains, needs = self._rows(form, times, form(times))
        if form.method == "axes":
            fine_levels = form(fine)
            more = self._rows(form, fine, fine_levels)
            gains, needs = torch.cat([gains, more[0]]), torch.cat([needs, more[1]])
        sizes = torch.zeros(len(self.columns), dtype=torch.float64)
        for _ in range(40):
            sizes = self._sizes(gains, needs)
            adapted = EffectivePrecision(self.adapted(self._bumps(sizes)))
            short, levels = self._short(adapted, fine)
            if not len(short):
                return self._bumps(sizes)
            more = self._rows(form, short, levels, sizes)
            gains, needs = torch.cat([gains, more[0]]), torch.cat([needs, more[1]])
        raise RepairError(
            "repair",
            "C ≥ δ is reached and proved at all times.",
            got="bounds of C(u) that do not meet" if form.method == "mixture" else "it is not",
            fix="choose a smaller margin, or other experts to bump",
        )

    def adapted(self, bumps: Sequence[Bump]) -> Composition:
        """The composition with bumped exponents."""
        exponents = list(self.composition.exponents)
        for found in bumps:
            if found.size > 0:
                exponents[found.index] = exponents[found.index] + found.exponent
        return self.composition.with_exponents(exponents)

    def _bumps(self, sizes: Tensor) -> tuple[Bump, ...]:
        names = [term.expert.name for term in self.composition.terms]
        return tuple(
            Bump(index, shape, float(size), names[index])
            for (index, shape), size in zip(self.columns, sizes, strict=True)
        )

    def _short(self, form: EffectivePrecision, fine: Tensor) -> tuple[Tensor, Levels]:
        """The times at which C < δ still, with the levels there: the worst of each dip."""

        def gap(t: Tensor) -> Tensor:
            return form(t).lower.amin(1) - self.floor(t)

        # mixtures cost more per time: their grid is coarser
        grid = fine[::40] if form.method == "mixture" else fine
        values, rounds = gap(grid), 15 if form.method == "mixture" else 40
        found = torch.cat([grid[values < 0], dips(gap, grid, values, rounds)])
        levels = form(found)
        floor = self.floor(found)
        slack = 1e-9 * floor.abs() + 1e-12 + 1e-13 * levels.scale.amax(1)
        bad = levels.lower.amin(1) < floor - slack
        if not bool(bad.any()):
            return found[:0], levels
        depth = (levels.lower.amin(1) - floor)[bad]
        worst = depth.topk(min(64, len(depth)), largest=False).indices
        chosen = found[bad][worst]
        return chosen, form(chosen)

    def _rows(
        self, form: EffectivePrecision, t: Tensor, at: Levels, sizes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """κ_j(u) shape(t) ``(rows, columns)`` and δ − C(u) ``(rows,)``, where it is positive.

        ``at`` says in which directions to look: those of the eigenvectors or of mixtures' bounds.
        The bound of a mixture from below may be less than any C(u): with ``sizes``, for which it
        was found, it is what is raised to δ.
        """
        shapes = torch.stack([shape(t) for _, shape in self.columns])
        index = [i for i, _ in self.columns]
        gammas, floor = form.gammas(t), self.floor(t)
        if form.method == "axes":
            kappa = form.axes(t)
            total = (gammas[:, :, None] * kappa).sum(0)
            gain = (shapes[:, :, None] * kappa[index]).permute(1, 2, 0).reshape(-1, len(index))
            need = (floor[:, None] - total).reshape(-1)
        else:
            assert at.directions is not None
            kappa = form.along(t, at.directions)
            gain = (shapes * kappa[index]).T
            need = floor - (gammas * kappa).sum(0)
            if form.method == "mixture" and sizes is not None:
                need = torch.maximum(need, gain @ sizes + floor - at.lower[:, 0])
        keep = need > 0
        return gain[keep], need[keep]

    def _sizes(self, gains: Tensor, needs: Tensor) -> Tensor:
        if not len(needs):
            return torch.zeros(gains.shape[1], dtype=torch.float64)
        if gains.shape[1] == 1:
            size = (needs / gains[:, 0].clamp_min(1e-300)).max()
            if not float(size) < 1e150:
                raise self._helpless()
            return size.reshape(1)
        return self._programme(gains, needs)

    def _programme(self, gains: Tensor, needs: Tensor) -> Tensor:
        """min cost · B with gains B ≥ needs and B ≥ 0, by `scipy.optimize.linprog`."""
        from scipy.optimize import linprog

        scale = gains.amax(1).clamp_min(1e-300)
        left, right = -(gains / scale[:, None]).numpy(), -(needs / scale).numpy()
        found = linprog(self.cost().numpy(), A_ub=left, b_ub=right, method="highs")
        if not found.success:
            raise self._helpless()
        return torch.from_numpy(found.x).clamp_min(0)

    def cost(self) -> Tensor:
        """The mean of b + |ḃ|: small bumps that move slowly."""
        t = torch.linspace(self.t_start, self.t_end, 401, dtype=torch.float64)
        return torch.stack([(s(t) + s.scalar.rate(t).abs()).mean() for _, s in self.columns])

    # -- why it cannot be ----------------------------------------------------------------------

    def _helpless(self) -> RepairError:
        return RepairError(
            "repair",
            "a bump of the chosen exponents reaches C ≥ δ.",
            got="a shortfall where no chosen expert has precision",
            fix="let more experts be bumped, or change the exponents",
        )

    def _examine(self, form: EffectivePrecision, times: Tensor) -> None:
        """Say why no bump can help, where that is so."""
        levels, floor = form(times), self.floor(times)
        blind = levels.blind.any(0).nonzero()[:, 0]
        if len(blind):
            raise RepairError(
                "repair",
                "every coordinate is seen by an expert.",
                got=f"no expert sees coordinate {int(blind[0])}",
                fix="multiply by an expert on that coordinate",
            )
        if not bool(levels.lower.abs().isfinite().all()) or float(levels.scale.max()) > 1e20:
            raise RepairError(
                "repair",
                "precisions are finite on [t_start, t_end].",
                got=f"infinite ones at t = {self.t_end:g}",
                fix="choose t_end < 1: near t = 1 a bump gains 1/(1 − t) and the deficit is of "
                "order 1/(1 − t)²",
            )
        need = floor[:, None] - levels.lower
        slack = 1e-9 * floor.abs() + 1e-12
        for at in (0, len(times) - 1):
            flat = all(float(shape(times[at : at + 1])) <= 1e-12 for _, shape in self.columns)
            if flat and bool((need[at] > slack[at]).any()):
                raise self._edge(float(times[at]), float(levels.lower[at].min()), float(floor[at]))
        if form.method == "axes":
            self._covered(form, times, need)

    def _edge(self, t: float, least: float, floor: float) -> RepairError:
        rule = "C > 0 where bumps vanish." if least <= 0 else "C ≥ δ where bumps vanish."
        fix = "lower the margin, or ask for it from a later t_start on"
        if least <= 0:
            fix = "change the exponents themselves: a bump moves neither end"
        if t > 0:
            fix += "; a shape with a later end still acts there"
        got = f"C = {least:.6g} at t = {t:g}" + (f", δ = {floor:g}" if least > 0 else "")
        return RepairError("repair", rule, got=got, fix=fix)

    def _covered(self, form: EffectivePrecision, times: Tensor, need: Tensor) -> None:
        chosen = sorted({index for index, _ in self.columns})
        gain = form.axes(times)[chosen].amax(0)
        lost = ((need > 0) & (gain <= 0)).nonzero()
        if len(lost):
            at, k = int(lost[0, 0]), int(lost[0, 1])
            names = ", ".join(self.composition.terms[i].expert.name for i in chosen)
            raise RepairError(
                "repair",
                "a bumped expert sees each coordinate in which C < δ.",
                got=f"coordinate {k} at t = {float(times[at]):.4g}, and bumps of {names}",
                fix="bump an expert on that coordinate too",
            )
