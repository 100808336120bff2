"""Errors: where, the rule, what came, what to do.

    GenpathError
    ├── ShapeError (ValueError)          tensors that do not pair up
    ├── DomainError (ValueError)         a value outside the set on which the formula holds
    │   └── SingularTimeError            a formula asked for where it is infinite
    ├── CapabilityError (TypeError)      a component asked for what it does not declare
    ├── NumericalError (ArithmeticError) a loss or weight that stopped being a number
    ├── PluginError                      a plugin or component that breaks the plugin contract
    │   ├── ComponentLoadError (ImportError)    a component whose code cannot be had
    │   └── UnknownComponentError (LookupError) a kind or name that nobody registered
    ├── ConfigError (ValueError)         a config that does not fit the schema or the components
    ├── BuildError (TypeError)           a component that lacks a thing that it needs
    ├── UsageError                       a command line that does not parse
    ├── RunError (OSError)               a run folder that cannot be read, written or continued
    └── CheckpointError (ValueError)     a checkpoint that does not fit what is installed

Every error prints in the same four parts, in the caller's names:

    ShapeError: LinearPath.draw: x0 and x1 pair up one to one, with one time per pair.
      got   x0 (64, 3), x1 (64, 3), t (32,)
      fix   pass t of shape (64,), or a scalar
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "CapabilityError",
    "CheckpointError",
    "ComponentLoadError",
    "ConfigError",
    "DomainError",
    "GenpathError",
    "NumericalError",
    "PluginError",
    "RunError",
    "ShapeError",
    "SingularTimeError",
    "UnknownComponentError",
    "UsageError",
]


class GenpathError(Exception):
    """The root of every error that genpath raises on purpose.

    Args:
        where: the public name that was called.
        rule: the rule that was broken, as one sentence.
        got: what came instead.
        fix: what the caller can do.

    Example:
        >>> print(GenpathError("TimeGrid", "times are finite.", got="nan", fix="drop it"))
        TimeGrid: times are finite.
          got   nan
          fix   drop it
    """

    def __init__(
        self, where: str, rule: str = "", *, got: str | None = None, fix: str | None = None
    ) -> None:
        self.where, self.rule, self.got, self.fix = where, rule, got, fix
        lines = [f"{where}: {rule}" if rule else where]
        if got is not None:
            lines.append(f"  got   {got}")
        if fix is not None:
            lines.append(f"  fix   {fix}")
        super().__init__("\n".join(lines))


class ShapeError(GenpathError, ValueError):
    """Tensors whose shapes do not pair up."""


class DomainError(GenpathError, ValueError):
    """A value outside the set on which the formula holds."""


class SingularTimeError(DomainError):
    """A formula asked for at a time where it is infinite."""


class CapabilityError(GenpathError, TypeError):
    """A component asked for something that it does not declare."""


class NumericalError(GenpathError, ArithmeticError):
    """A loss, field or weight that stopped being a finite number."""


# --- plugins, configs and the command -------------------------------------------------------------


class PluginError(GenpathError):
    """A plugin or component that breaks the plugin contract."""


class ComponentLoadError(PluginError, ImportError):
    """A component whose code cannot be imported, or is not what its registration says."""


class UnknownComponentError(PluginError, LookupError):
    """A kind or a name that no plugin registered."""


class ConfigError(GenpathError, ValueError):
    """A config, or an override, that does not fit the schema or the components that it names.

    ``problems`` holds every problem of the config, where it was read far enough to have several.
    """

    problems: tuple[object, ...] = ()


class BuildError(GenpathError, TypeError):
    """A component that is built without a thing that it needs."""


class UsageError(GenpathError):
    """A command line that does not parse."""


# --- runs and checkpoints -------------------------------------------------------------------------


class RunError(GenpathError, OSError):
    """A run folder that cannot be read, written or continued."""


class CheckpointError(GenpathError, ValueError):
    """A checkpoint that is damaged, or that does not fit what is installed."""
