"""Where a source can be mutated, and how: found with `ast`, applied to the text.

A *site* is one place of a source together with one replacement there:

    + and -, * and /, ** to *, += and -=, *= and /=      operators
    -x to +x, and a minus before an assigned or returned sum, product, quotient or power
    0.5 to 1.0, 1 to 2, 2 to 1, 0 to 1, else c to 2c     numbers in arithmetic, comparisons, calls
    < to <=, < to >, == to !=, and their mirror images   comparisons
    min and max, sin and cos, floor and ceil, ...        the pairs of `settings.SWAPS`
    and to or, or to and, `not` dropped                  only with `logic`

Text is replaced, not the tree, so line numbers stay and a mutant can be shown as it would be
written. Left alone: annotations, decorators, the defaults of arguments and of dataclass fields,
type aliases, `__all__` and its like, f-strings, raised errors, options' metadata and other words
(`settings.TEXT_CALLS`), functions that draw a figure (`settings.DISPLAY`), axes and sizes
(`settings.SHAPE_CALLS`), concatenation of sequences, comparison with strings.
"""

import ast
import hashlib
import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from . import settings

OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
}
ALONE = (ast.FloorDiv, ast.Mod, ast.MatMult)
COMPARISONS = {
    ast.Lt: ("<", ("<=", ">")),
    ast.LtE: ("<=", ("<", ">=")),
    ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<=")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
}
SWAPPED = dict(settings.SWAPS) | {b: a for a, b in settings.SWAPS}
# whether a number that stands somewhere takes part in arithmetic: no, if it is a float, yes
NO, FLOATS, YES = 0, 1, 2
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SIMPLE = (ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Assert)


@dataclass(frozen=True)
class Site:
    """One mutant.

    Args:
        file: path from the root, with slashes.
        function: the qualified name around it; `<module>` at the top.
        number: the line where the replacement begins.
        line: that line's text, without its indentation.
        mutation: what is done, in words, such as ``+ to -``.
        at: which of the places it is, counted from 1, where the same line of the same function
            allows the same mutation several times.
        edits: (begin, end, text) in bytes of the source.
        span: first and last line of the statement, or of the head of a compound one.
        imported: whether the statement runs when the module is imported.
    """

    file: str
    function: str
    number: int
    line: str
    mutation: str
    edits: tuple[tuple[int, int, bytes], ...] = field(repr=False)
    span: tuple[int, int]
    imported: bool
    at: int = 1

    @property
    def key(self):
        """What a list of mutants knows it by: no line number, so that it outlives edits above."""
        return (self.file, self.function, self.line, self.mutation, self.at)

    @property
    def id(self):
        return hashlib.sha256("\0".join(map(str, self.key)).encode()).hexdigest()[:10]

    def apply(self, source):
        """The mutated source, in bytes."""
        for begin, end, text in sorted(self.edits, reverse=True):
            source = source[:begin] + text + source[end:]
        return source

    def after(self, source):
        """The line of the site as the mutant has it."""
        return self.apply(source).splitlines()[self.number - 1].decode().strip()


def is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def is_sequence(node):
    """Whether `+` and `*` on it join or repeat: a string, a tuple, a list, or a sum of them."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    if isinstance(node, ast.BinOp):
        return is_sequence(node.left) or is_sequence(node.right)
    return isinstance(
        node,
        ast.JoinedStr | ast.Tuple | ast.List | ast.Set | ast.Dict | ast.ListComp | ast.SetComp,
    )


def is_arithmetic(node):
    kinds = (*OPERATORS, *ALONE)
    return isinstance(node, ast.BinOp) and isinstance(node.op, kinds) and not is_sequence(node)


def has_words(node):
    """Whether it is a string, None, or a collection of such: no comparison of numbers."""
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, str | bytes | bool)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return bool(node.elts) and all(has_words(item) for item in node.elts)
    return isinstance(node, ast.JoinedStr)


def last_name(node):
    """`c` of `a.b.c`, `c` of `c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def changed(value):
    """The number that replaces a number, as text."""
    if isinstance(value, int):
        return str({0: 1, 1: 2, 2: 1}.get(value, 2 * value))
    return repr({0.0: 1.0, 1.0: 2.0, 2.0: 1.0}.get(value, 2 * value))


class Finder:
    """Walks one module and collects its sites."""

    def __init__(self, file, source, logic=False):
        self.file, self.source, self.logic = file, source, logic
        self.lines = source.decode().split("\n")
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.names, self.depth, self.span, self.in_class = [], 0, (1, 1), False
        self.found = []

    def run(self):
        for statement in ast.parse(self.source).body:
            self.statement(statement)
        found = sorted(self.found, key=lambda site: (site.edits[0][0], site.mutation))
        seen, numbered = {}, []
        for site in found:
            seen[site.key] = seen.get(site.key, 0) + 1
            numbered.append(replace(site, at=seen[site.key]))
        return numbered

    # positions

    def begin(self, node):
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node):
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def token(self, begin, end, text):
        """Where `text` stands between two operands: only brackets and comments can be besides."""
        gap = re.sub(rb"#[^\n]*", lambda found: b" " * len(found[0]), self.source[begin:end])
        place = gap.index(text.encode())
        return begin + place, begin + place + len(text)

    def add(self, mutation, *edits):
        number = self.source.count(b"\n", 0, edits[0][0]) + 1
        self.found.append(
            Site(
                self.file,
                ".".join(self.names) or "<module>",
                number,
                self.lines[number - 1].strip(),
                mutation,
                tuple((begin, end, text.encode()) for begin, end, text in edits),
                self.span,
                self.depth == 0,
            )
        )

    # statements

    def statement(self, node):
        if isinstance(node, FUNCTIONS):
            if node.args.args and node.args.args[0].arg in settings.DISPLAY:
                return
            outside, self.in_class = self.in_class, False
            self.names.append(node.name)
            self.depth += 1
            for inner in node.body:
                self.statement(inner)
            self.depth -= 1
            self.names.pop()
            self.in_class = outside
        elif isinstance(node, ast.ClassDef):
            outside, self.in_class = self.in_class, True
            self.names.append(node.name)
            for inner in node.body:
                self.statement(inner)
            self.names.pop()
            self.in_class = outside
        elif isinstance(node, SIMPLE):
            self.span = (node.lineno, node.end_lineno)
            self.simple(node)
        elif not isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
            self.compound(node)

    def simple(self, node):
        if isinstance(node, ast.Assert):
            self.expression(node.test, NO)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(last_name(target).startswith("__") for target in targets):
                return
            if isinstance(node, ast.AnnAssign) and last_name(node.annotation) == "TypeAlias":
                return
            field_default = isinstance(node, ast.AnnAssign) and self.in_class
            if field_default and last_name(node.target) not in settings.FACTS:
                return
            for target in targets:
                self.expression(target, NO)
            self.result(node.value)
        elif isinstance(node, ast.AugAssign):
            self.expression(node.target, NO)
            if not is_sequence(node.value):
                self.operator(node, node.target, node.value, "=")
            self.result(node.value)
        elif isinstance(node, ast.Return):
            self.result(node.value)
        else:
            self.expression(node.value, NO)

    def compound(self, node):
        """The head's expressions, then the bodies."""
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.expr) and name != "type":
                self.span = (value.lineno, value.end_lineno)
                self.expression(value, NO)
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.stmt):
                        self.statement(item)
                    elif isinstance(item, ast.ExceptHandler | ast.match_case):
                        self.compound(item)
                    elif isinstance(item, ast.withitem):
                        self.span = (item.context_expr.lineno, item.context_expr.end_lineno)
                        self.expression(item.context_expr, NO)

    # expressions; `counts` is NO, FLOATS or YES

    def result(self, node):
        """An expression whose value is assigned or returned."""
        if node is None:
            return
        self.negated(node)
        self.expression(node, YES)

    def negated(self, node):
        if isinstance(node, ast.Tuple):
            for item in node.elts:
                self.negated(item)
        elif isinstance(node, ast.IfExp):
            self.negated(node.body)
            self.negated(node.orelse)
        elif is_arithmetic(node):
            begin, end = self.begin(node), self.end(node)
            self.add("add a minus", (begin, begin, "(-("), (end, end, "))"))

    def expression(self, node, counts):
        visit = getattr(self, f"on_{type(node).__name__}", None)
        if visit is not None:
            visit(node, counts)
            return
        for name, value in ast.iter_fields(node):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.expr):
                    passed = counts * (name in {"elts", "values", "elt", "value", "body", "orelse"})
                    self.expression(item, passed)
                elif isinstance(item, ast.comprehension):
                    for part in (item.iter, *item.ifs):
                        self.expression(part, NO)

    def on_JoinedStr(self, node, counts):
        pass

    def on_Attribute(self, node, counts):
        self.expression(node.value, NO)

    def on_Lambda(self, node, counts):
        self.result(node.body)

    def on_Constant(self, node, counts):
        if is_number(node) and (counts == YES or (counts and isinstance(node.value, float))):
            text = changed(node.value)
            was = ast.get_source_segment(self.source.decode(), node)
            self.add(f"{was} to {text}", (self.begin(node), self.end(node), text))

    def on_UnaryOp(self, node, counts):
        if isinstance(node.op, ast.Not):
            if self.logic:
                begin, end = self.begin(node), self.begin(node) + len("not")
                self.add("drop not", (begin, end, "   "))
            self.expression(node.operand, NO)
            return
        constant = is_number(node.operand)
        plain = constant and isinstance(node.operand.value, int)
        if isinstance(node.op, ast.USub) and (not constant or counts > (FLOATS if plain else NO)):
            begin = self.begin(node)
            self.add("drop the minus", (begin, begin + 1, "+"))
        self.expression(node.operand, counts if constant else YES)

    def on_BinOp(self, node, counts):
        arithmetic = is_arithmetic(node)
        if arithmetic:
            self.operator(node, node.left, node.right)
        self.expression(node.left, YES if arithmetic else NO)
        self.expression(node.right, YES if arithmetic else NO)

    def operator(self, node, left, right, suffix=""):
        was, becomes = OPERATORS.get(type(node.op), (None, None))
        if was is None:
            return
        begin, end = self.token(self.end(left), self.begin(right), was + suffix)
        edits = [(begin, end, becomes + suffix)]
        if was == "**" and not suffix:  # the product binds less tightly
            edits += [(self.begin(node),) * 2 + ("(",), (self.end(node),) * 2 + (")",)]
        self.add(f"{was}{suffix} to {becomes}{suffix}", *edits)

    def on_Compare(self, node, counts):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, node.comparators, strict=False):
            if type(operator) not in COMPARISONS or has_words(left) or has_words(right):
                continue
            was, others = COMPARISONS[type(operator)]
            begin, end = self.token(self.end(left), self.begin(right), was)
            for other in others:
                self.add(f"{was} to {other}", (begin, end, other))
        for operand in operands:
            self.expression(operand, YES)

    def on_BoolOp(self, node, counts):
        if self.logic:
            was, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            edits = [(self.begin(node),) * 2 + ("(",), (self.end(node),) * 2 + (")",)]
            for left, right in zip(node.values, node.values[1:], strict=False):
                edits.append((*self.token(self.end(left), self.begin(right), was), other))
            self.add(f"{was} to {other}", *edits)
        for value in node.values:
            self.expression(value, NO)

    def on_IfExp(self, node, counts):
        self.expression(node.test, NO)
        self.expression(node.body, counts)
        self.expression(node.orelse, counts)

    def on_Dict(self, node, counts):
        for value in node.values:
            self.expression(value, counts)

    def on_Subscript(self, node, counts):
        if last_name(node.value) in settings.TYPE_NAMES:
            return
        self.expression(node.value, counts)
        self.expression(node.slice, NO)

    def on_Call(self, node, counts):
        name = last_name(node.func)
        if name in settings.TEXT_CALLS or name.endswith("Error"):
            return
        if name in SWAPPED:
            end = self.end(node.func)
            self.add(f"{name} to {SWAPPED[name]}", (end - len(name), end, SWAPPED[name]))
        if not isinstance(node.func, ast.Name):
            self.expression(node.func, NO)
        # x.max(1) has an axis, max(x, 1) a number
        reduces = name in {"max", "min"} and isinstance(node.func, ast.Attribute)
        plain = name not in settings.SHAPE_CALLS and not reduces
        for argument in node.args:
            self.expression(argument, YES if plain else FLOATS)
        for keyword in node.keywords:
            if keyword.arg in {"min", "max"}:
                begin = self.begin(keyword)
                other = SWAPPED[keyword.arg]
                self.add(f"{keyword.arg}= to {other}=", (begin, begin + 3, other))
            self.expression(keyword.value, NO if keyword.arg in settings.SHAPE_KEYWORDS else YES)


def sources(root, include=()):
    """The files whose arithmetic is mutated, sorted; `include` adds to them (files or folders)."""
    found = []
    wanted = [(root / path).resolve() for path in include]
    for path in sorted(root.glob("packages/*/src/**/*.py")):
        module = path.relative_to(root).parts[:4]
        inside = path.relative_to(root.joinpath(*module)).as_posix()
        left_out = any(fnmatch(inside, pattern) for pattern in settings.EXCLUDED)
        named = any(path.resolve().is_relative_to(other) for other in wanted)
        if named or not left_out:
            found.append(path)
    return found


def sites_of(root, path, logic=False):
    """The sites of one file, in order of position."""
    return Finder(Path(path).relative_to(root).as_posix(), path.read_bytes(), logic).run()


def all_sites(root, include=(), logic=False):
    """Every site below a root, sorted by file and position."""
    return [site for path in sources(root, include) for site in sites_of(root, path, logic)]
