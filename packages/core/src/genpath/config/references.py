"""References inside a config: ``${seed}`` stands for the value of ``seed``.

OmegaConf resolves them, absolute (``${train.steps}``) and relative (``${..width}``). Its resolvers,
which compute or look outside (``${oc.env:HOME}``), are all refused: a stored config must mean the
same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from genpath.config.problems import INVALID, Problems

__all__ = ["resolve", "uses_resolver"]

_TO_BE_GIVEN = "???"


def uses_resolver(text: str) -> bool:
    r"""Whether text calls a resolver: a colon inside ``${...}``.

    Example:
        >>> uses_resolver("${seed}"), uses_resolver("${oc.env:HOME}"), uses_resolver(r"\${a:b}")
        (False, True, False)
    """
    depth = index = 0
    while index < len(text):
        if depth == 0 and text[index] == "\\":
            run = len(text[index:]) - len(text[index:].lstrip("\\"))
            index += run
            if run % 2 and text.startswith("${", index):
                index += 2
            continue
        if text.startswith("${", index):
            depth, index = depth + 1, index + 2
            continue
        if depth and text[index] == ":":
            return True
        if depth and text[index] == "}":
            depth -= 1
        index += 1
    return False


def _leaves(node: Any, key: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every text that refers or waits: its container, its place there, and its key path."""
    items: Iterator[tuple[Any, Any, str]]
    if isinstance(node, dict):
        items = (
            (name, value, f"{key}.{name}" if key else str(name)) for name, value in node.items()
        )
    elif isinstance(node, list):
        items = ((index, value, f"{key}[{index}]") for index, value in enumerate(node))
    else:
        return
    for name, value, where in items:
        if isinstance(value, str):
            if "${" in value or value == _TO_BE_GIVEN:
                yield node, name, where
        else:
            yield from _leaves(value, where)


def resolve(data: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Plain values with every reference replaced by what it refers to.

    Args:
        data: the config as written, with the defaults that may be referred to.
        problems: takes down references that lead nowhere, resolvers, and values still to be given.

    Example:
        >>> resolve({"seed": 3, "data": {"seed": "${seed}"}}, Problems())
        {'seed': 3, 'data': {'seed': 3}}
    """
    leaves = list(_leaves(data))
    if not leaves:
        return data
    refused = False
    for container, name, where in leaves:
        if container[name] == _TO_BE_GIVEN:
            got = "???, which stands for one still to be given"
            problems.add(where, "a value", got, f"write it, or pass {where}=VALUE")
        elif uses_resolver(container[name]):
            refused = True
            expected = "a value, or a reference to a key of this config such as ${seed}"
            fix = "resolvers are refused; write the value itself"
            problems.add(where, expected, repr(container[name]), fix)
    return _blank(data, leaves) if refused else _with_omegaconf(data, leaves, problems)


def _blank(data: dict[str, Any], leaves: list[tuple[Any, Any, str]]) -> dict[str, Any]:
    """Nothing is resolved where a resolver might run on the way."""
    for container, name, _ in leaves:
        container[name] = INVALID
    return data


def _with_omegaconf(
    data: dict[str, Any], leaves: list[tuple[Any, Any, str]], problems: Problems
) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree = OmegaConf.create(data)
    values = []
    for container, name, where in leaves:
        value: Any = INVALID
        if container[name] != _TO_BE_GIVEN:
            try:
                value = _value_at(tree, where)
                if OmegaConf.is_config(value):
                    value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            except (OmegaConfBaseException, RecursionError) as error:
                reason = "it refers to itself" if isinstance(error, RecursionError) else str(error)
                expected = "a reference to a key that this config states"
                problems.add(where, expected, repr(container[name]), reason.splitlines()[0])
        values.append(value)
    for (container, name, _), value in zip(leaves, values, strict=True):
        container[name] = value
    return data


def _value_at(tree: Any, where: str) -> Any:
    import re

    for step in re.findall(r"[^.\[\]]+", where):
        tree = tree[int(step) if type(tree).__name__ == "ListConfig" else step]
    return tree
