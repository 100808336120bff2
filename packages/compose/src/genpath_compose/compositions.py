r"""Compositions: ratio paths of experts, written as they are read.

    h_t(x) = Π_i q_t^{(i)}(x_{I_i})^{γ_i(t)}        p*_t = h_t/Z_t        s* = Σ_i γ_i s_i

    (a ** 1.4) * b / c            exponents 1.4, 1, −1
    a.on(0) * b.on(0, 1)          a on coordinate 0, b on both
    composition(a=…, b=…)("a**2 * b / c")       the same from text, as a config writes it

Powers of an expert that occurs twice add up. Whether Z_t is finite is a question of its own:
`genpath_compose.certificates`. (Course, L7.1, L8.3; Skreta et al. 2025, arXiv 2503.02819.)
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genpath.errors import CapabilityError, DomainError, GenpathError, ShapeError
from genpath.spaces import Euclidean
from genpath.states import per_row

from .experts import Expert
from .exponents import Exponent, exponent
from .lifted import Lifted
from .normals import Normal, power_product

__all__ = ["Composition", "Term", "parse"]


@dataclass(frozen=True, eq=False)
class Term:
    """An expert, its exponent, and the coordinates that it sees.

    Args:
        expert: any.
        exponent: γ.
        coordinates: I; None for all of them.
    """

    expert: Expert
    exponent: Exponent = field(default_factory=Exponent)
    coordinates: tuple[int, ...] | None = None

    def words(self) -> str:
        """``name[coordinates]^exponent``."""
        where = "" if self.coordinates is None else f"[{', '.join(map(str, self.coordinates))}]"
        return f"{self.expert.name}{where}^({self.exponent.words()})"


@dataclass(frozen=True, eq=False)
class Composition:
    """Π_i q_i^{γ_i}: experts with exponents, each on its coordinates.

    Args:
        terms: one or more.
        size: d of the state where experts see parts of it; the largest index + 1 if None.

    Raises:
        DomainError: no term.
        ShapeError: experts whose points have different shapes, without coordinates that say how
            they fit together.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> a, b = (FieldExpert(lambda t, x: (0 * x, -x), (1,), name) for name in "ab")
        >>> print(a**1.5 * b / a)
        a^(0.5) · b^(1)
        >>> (a.on(0) * b.on(2)).event_shape
        (3,)
    """

    terms: tuple[Term, ...]
    size: int | None = None

    def __post_init__(self) -> None:
        merged: list[Term] = []
        for term in self.terms:
            for index, known in enumerate(merged):
                if known.expert is term.expert and known.coordinates == term.coordinates:
                    merged[index] = replace(known, exponent=known.exponent + term.exponent)
                    break
            else:
                merged.append(term)
        if not merged:
            raise DomainError("Composition", "it has one expert or more.", got="none")
        object.__setattr__(self, "terms", tuple(merged))

    # -- the language ------------------------------------------------------------------------

    def composition(self) -> Composition:
        """Itself."""
        return self

    def __mul__(self, other: Expert | Composition) -> Composition:
        if not isinstance(other, (Expert, Composition)):
            return NotImplemented
        joined = other.composition()
        sizes = [s for s in (self.size, joined.size) if s is not None]
        return Composition(self.terms + joined.terms, max(sizes, default=None))

    def __truediv__(self, other: Expert | Composition) -> Composition:
        if not isinstance(other, (Expert, Composition)):
            return NotImplemented
        return self * other.composition() ** -1

    def __pow__(self, power: Any) -> Composition:
        """The power: a number, an `Exponent`, a `Scalar`, or a function of times."""
        factor = exponent(power)
        terms = tuple(replace(term, exponent=term.exponent * factor) for term in self.terms)
        return replace(self, terms=terms)

    def __str__(self) -> str:
        return " · ".join(term.words() for term in self.terms)

    def sized(self, size: int) -> Composition:
        """The composition as one of states in R^size."""
        return replace(self, size=size)

    def with_exponents(self, exponents: Sequence[Exponent]) -> Composition:
        """The same experts with other exponents, in the order of the terms."""
        pairs = zip(self.terms, exponents, strict=True)
        return replace(self, terms=tuple(replace(term, exponent=g) for term, g in pairs))

    # -- what it is --------------------------------------------------------------------------

    @cached_property
    def experts(self) -> tuple[Expert, ...]:
        """The experts as laws on the whole state, in the order of the terms."""
        partial = [term for term in self.terms if term.coordinates is not None]
        if not partial:
            self._alike([term.expert for term in self.terms])
            return tuple(term.expert for term in self.terms)
        whole = [t.expert.event_shape for t in self.terms if t.coordinates is None]
        sizes = [1 + max(t.coordinates, default=0) for t in partial if t.coordinates is not None]
        sizes += [shape[0] for shape in whole if len(shape) == 1]
        size = max(sizes) if self.size is None else self.size
        found = [
            t.expert if t.coordinates is None else Lifted(t.expert, t.coordinates, size)
            for t in self.terms
        ]
        self._alike(found)
        return tuple(found)

    def _alike(self, experts: Sequence[Expert]) -> None:
        shapes = {expert.event_shape for expert in experts}
        if len(shapes) > 1:
            raise ShapeError(
                "Composition",
                "experts have points of one shape, or coordinates that say where they are.",
                got=", ".join(f"{e.name} {e.event_shape}" for e in experts),
                fix="write expert.on(0, 1, …) for experts on parts of the state",
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return self.experts[0].event_shape

    @cached_property
    def space(self) -> Euclidean:
        """R^d."""
        return Euclidean(*self.event_shape)

    @property
    def exponents(self) -> tuple[Exponent, ...]:
        """γ_i, in the order of the terms."""
        return tuple(term.exponent for term in self.terms)

    def powers(self, t: float) -> list[float]:
        """γ_i(t)."""
        at = torch.tensor([float(t)], dtype=torch.float64)
        return [float(g(at)) for g in self.exponents]

    def start(self, t: float = 0.0) -> tuple[Normal, float]:
        """p*_0 where all experts start from normal laws, and log Z_0.

        Particles that begin from another law (q_0 for an annealed q^β) end in another law.

        Raises:
            CapabilityError: an expert does not say where it starts.
            DomainError: the product of the starts cannot be normalised.

        Example:
            >>> from genpath_compose.experts import FieldExpert
            >>> normal = Normal.isotropic((1,))
            >>> a = FieldExpert(lambda t, x: (0 * x, -x), (1,), "a", start=normal)
            >>> (a**4).start()[0].precision
            tensor([4.], dtype=torch.float64)
        """
        powers, parts = self.powers(t), list[tuple[Tensor, Tensor]]()
        used, shape = list[float](), self.event_shape
        for expert, term, power in zip(self.experts, self.terms, powers, strict=True):
            if power == 0:
                continue
            law = expert.start
            if law is None:
                raise CapabilityError(
                    f"expert {expert.name}",
                    "a composition starts where its experts do.",
                    got=f"no start law, and exponent {power:g} at t = {t:g}",
                    fix="give the expert `start=Normal(…)`, or pass a start law of your own",
                )
            parts.append(_widened(law, term.coordinates, shape))
            used.append(power)
        return power_product(parts, used)

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log h_t(x), not normalised: ``(batch,)``.

        Raises:
            CapabilityError: an expert has no log_prob.
        """
        total = x.new_zeros(len(x))
        for expert, gamma in zip(self.experts, self.exponents, strict=True):
            total = total + gamma(t) * expert.log_prob(t, x)
        return total

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """s* = Σ γ_i s_i."""
        total = torch.zeros_like(x)
        for expert, gamma in zip(self.experts, self.exponents, strict=True):
            total = total + per_row(gamma(t), x) * expert.score(t, x)
        return total


def _widened(
    law: Normal, index: tuple[int, ...] | None, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mean and precision on the whole state, 0 where the expert does not look."""
    if index is None:
        return law.mean, law.precision
    mean, precision = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    mean[list(index)], precision[list(index)] = law.mean, law.precision
    return mean, precision


def parse(text: str, experts: Mapping[str, Expert | Composition]) -> Composition:
    """A composition from text: names, numbers, ``*``, ``/``, ``**``, parentheses and presets.

    ``name[0, 2]`` puts an expert on coordinates; ``guided(cat, null, 1.5)`` is a preset, one of
    `genpath_compose.presets.SPOKEN`. Nothing is evaluated but these.

    Args:
        text: such as ``"(a ** 1.4) * b[0, 1] / c"``.
        experts: by name.

    Raises:
        DomainError: an unknown name, or anything else than the above.

    Example:
        >>> from genpath_compose.experts import FieldExpert
        >>> known = {n: FieldExpert(lambda t, x: (0 * x, -x), (1,), n) for n in "abc"}
        >>> print(parse("(a ** 1.4) * b / (c * a) ** 0.4", known))
        a^(1) · b^(1) · c^(-0.4)
        >>> print(parse("guided(a, b, 0.5) * c", known))
        a^(1.5) · b^(-0.5) · c^(1)
    """

    def refuse(what: str, fix: str) -> DomainError:
        return DomainError("composition", f"in {text!r}: {what}", fix=fix)

    def number(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            return -number(node.operand) if isinstance(node.op, ast.USub) else number(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            found: float = _ARITHMETIC[type(node.op)](number(node.left), number(node.right))
            return found
        raise refuse("a power is a number.", "write a ** 1.4")

    def whole(node: ast.expr) -> int:
        value = number(node)
        if value != int(value) or isinstance(node, ast.Slice):
            raise refuse("coordinates are whole numbers.", "write a[0, 1]")
        return int(value)

    def visit(node: ast.expr) -> Composition:
        if isinstance(node, ast.Name):
            if node.id not in experts:
                known = ", ".join(experts) or "none"
                raise refuse(f"there is no expert {node.id!r}.", f"the experts are: {known}")
            return experts[node.id].composition()
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            found = visit(node.value)
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if len(found.terms) != 1 or found.terms[0].coordinates is not None:
                raise refuse("coordinates belong to one expert.", "write a[0, 1]")
            return found.terms[0].expert.on(*(whole(part) for part in inner))
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Pow):
                return visit(node.left) ** number(node.right)
            if isinstance(node.op, ast.Mult):
                return visit(node.left) * visit(node.right)
            if isinstance(node.op, ast.Div):
                return visit(node.left) / visit(node.right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return spoken(node.func.id, node.args)
        raise refuse(
            f"{ast.unparse(node)!r} is no composition.",
            "use names of experts, numbers as powers, *, /, **, parentheses and presets",
        )

    def spoken(name: str, arguments: Sequence[ast.expr]) -> Composition:
        from .presets import SPOKEN

        if name not in SPOKEN:
            raise refuse(f"there is no preset {name!r}.", f"the presets are: {', '.join(SPOKEN)}")
        operands, numbers = list[Composition](), list[float]()
        for node in arguments:
            if isinstance(node, (ast.Constant, ast.UnaryOp)):
                numbers.append(number(node))
            else:
                operands.append(visit(node))
        try:
            return SPOKEN[name](operands, numbers)
        except (TypeError, ValueError) as error:
            if isinstance(error, GenpathError):
                raise
            raise refuse(
                f"{name}({', '.join(map(ast.unparse, arguments))}) does not fit.",
                SPOKEN[name].__doc__ or "",
            ) from None

    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise refuse(f"it cannot be read ({error.msg}).", "write (a ** 1.4) * b / c") from None
    return visit(tree.body)


_ARITHMETIC: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
