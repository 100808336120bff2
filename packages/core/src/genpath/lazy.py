"""Names that a package offers at its top and loads when they are used.

    __getattr__, __dir__, __all__ = attach(__name__, {"paths": ("LinearPath",)})

(PEP 562.) Importing such a package imports none of its modules, hence no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["attach"]


def attach(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: its ``__name__``.
        homes: module of the package → the names that it holds.

    Example:
        >>> get, names, exported = attach("json", {"decoder": ("JSONDecoder",)})
        >>> exported, get("JSONDecoder").__name__
        (['JSONDecoder', '__version__'], 'JSONDecoder')
    """
    where = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{where[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return get, names, sorted([*where, "__version__"])
