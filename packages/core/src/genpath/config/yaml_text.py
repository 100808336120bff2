"""YAML as configs use it: the core schema of YAML 1.2, with the line of every key.

PyYAML alone reads YAML 1.1, where ``1:30`` is ninety, ``no`` is false, ``010`` is eight and
``1e-3`` is text. Here they are text, text, ten and a number. A key given twice is an error, tags
that make objects are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from genpath.errors import ConfigError

__all__ = ["dump", "parse", "parse_value"]

_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(
    r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_RESOLVERS: list[tuple[str, re.Pattern[str], list[str] | None]] = [
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"<<"), ["<"]),
]


class _Loader(yaml.SafeLoader):
    """Safe, and by the rules of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own protocol


def _whole(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern.pattern})\Z")


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole(_pattern), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower().replace("_", "")
    return float(re.sub(r"\.(inf|nan)", r"\1", text))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would read as something else than text."""

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012
        first: list(rules) for first, rules in _Loader.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _first_letter, _rules in yaml.SafeDumper.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_first_letter, []).extend(_rules)


def dump(data: Any) -> str:
    r"""Plain values as YAML that ``parse`` reads back as the same values.

    Text that looks like a reference is escaped, since a resolved config refers to nothing.

    Example:
        >>> print(dump({"lr": 0.001, "note": "1e-3", "shell": "${HOME}"}), end="")
        lr: 0.001
        note: '1e-3'
        shell: \${HOME}
    """
    text: str = yaml.dump(
        _escape(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _escape(data: Any) -> Any:
    if isinstance(data, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", data)
    if isinstance(data, dict):
        return {key: _escape(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_escape(value) for value in data]
    return data


def parse(text: str, source: str) -> tuple[Any, dict[str, int]]:
    """YAML as plain values, with the line of every key path.

    Args:
        text: one YAML document.
        source: what to call it in messages.

    Returns:
        The values, and from key path (``path.schedule``, ``evaluate[0]``) to line, counted from 1.

    Raises:
        ConfigError: it is no YAML, gives a key twice, has a key that is no text, or contains
            itself.

    Example:
        >>> parse("a: {b: 1:30}", "example")
        ({'a': {'b': '1:30'}}, {'a': 1, 'a.b': 1})
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: dict[str, int] = {}
        _walk(node, "", lines, source, [])
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        fix = _yaml_fix(problem)
        raise ConfigError(place, "this is no plain YAML.", got=problem, fix=fix) from None


def _yaml_fix(problem: str) -> str | None:
    if "constructor for the tag" in problem:
        return "a config holds plain values only; leave out the tag"
    if "mapping values are not allowed" in problem:
        return "put text with a colon in quotes"
    if "but got '{'" in problem:
        return "inside {...} and [...], put ${...} in quotes"
    if "'\\t'" in problem:
        return "indent with spaces"
    return None


def parse_value(text: str) -> Any:
    """The value of an override, by the same rules.

    Raises:
        ConfigError: it is no YAML.
    """
    return parse(text, "override")[0]


def _walk(
    node: yaml.Node, key: str, lines: dict[str, int], source: str, above: list[yaml.Node]
) -> None:
    if node in above:
        place = f"{source}:{node.start_mark.line + 1}"
        raise ConfigError(place, "a value cannot contain itself.", got=key)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            where = f"{key}[{index}]"
            lines[where] = item.start_mark.line + 1
            _walk(item, where, lines, source, [*above, node])
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.tag == "tag:yaml.org,2002:merge":
                continue
            if name.tag != "tag:yaml.org,2002:str":
                got = getattr(name, "value", "a list or mapping")
                fix = "put it in quotes" if isinstance(got, str) else None
                raise ConfigError(f"{source}:{line}", "a key is text.", got=str(got), fix=fix)
            where = f"{key}.{name.value}" if key else name.value
            if where in lines:
                got = f"{where} on lines {lines[where]} and {line}"
                raise ConfigError(f"{source}:{line}", "a key is given once.", got=got)
            lines[where] = line
            _walk(value, where, lines, source, [*above, node])
