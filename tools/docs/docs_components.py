"""What the registry knows, as Markdown: tables of components, and configs that were checked."""

from dataclasses import MISSING, fields

from genpath.config import read_config
from genpath.plugins import registry


def components(plugin):
    """A table of the components of one plugin: kind, name, what it is, its options."""
    rows = ["| kind | name | what it is | options |", "|---|---|---|---|"]
    for component in registry().components():
        if component.plugin == plugin:
            rows.append(
                f"| {component.kind} | `{component.name}` | {_cell(component.summary)} "
                f"| {_options(component)} |"
            )
    return "\n".join(rows)


def kinds():
    """A table of the kinds of component, with how many each plugin brings."""
    rows = ["| kind | names |", "|---|---|"]
    for kind, found in registry().by_kind().items():
        rows.append(f"| `{kind}` | {', '.join(f'`{component.name}`' for component in found)} |")
    return "\n".join(rows)


def config(text):
    """A config in a fence, after `genpath` has accepted it."""
    read_config(text, source="the config on this page")
    return f"```yaml\n{text.strip()}\n```"


def _options(component):
    cls = component.options_class()
    if cls is None:
        return "–"
    names = []
    for field in fields(cls):
        required = field.default is MISSING and field.default_factory is MISSING
        names.append(f"`{field.name}`{' (required)' if required else ''}")
    return ", ".join(names) or "–"


def _cell(text):
    return text.replace("|", "\\|")
