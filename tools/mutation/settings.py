"""What is mutated and what is not: the lists to edit."""


def words(text):
    return frozenset(text.split())


# Left out unless --include names them: no arithmetic of the mathematics is in these.
# Globs on the path inside a package's module folder.
EXCLUDED = (
    "_version.py",
    "__init__.py",
    "*/__init__.py",
    "plugin.py",
    "cli/*",
    "config/*",
    "plugins/*",
    "testing/*",
    "claims.py",
    "claims/*",
    "lazy.py",
    # of run/, the text, the display and the files; training and seeds stay
    "run/assembly.py",
    "run/checkpoints.py",
    "run/commands.py",
    "run/files.py",
    "run/folder.py",
    "run/progress.py",
    "run/report.py",
    "run/samples.py",
    "run/stages.py",
    "run/tables.py",
)

# The tests that may catch a mutant: what pytest is given, and what it leaves out because it only
# runs other processes, where the mutated module is not seen.
TESTS = ("packages",)
IGNORED = (
    "packages/core/tests/test_run_kills.py",
    "packages/core/tests/test_plugins_fakes.py",
)

# Copied into .mutate/, so that people can go on working while the mutants run.
COPIED = (
    "packages",
    "tests",
    "examples",
    "docs",
    "benchmarks",
    "conftest.py",
    "pyproject.toml",
    "hatch.toml",
    "README.md",
    "constraints.txt",
)

# Imported once by the parent, before any child is forked; missing ones are passed over.
# geomstats is not among them: importing it changes torch's default dtype.
PRELOADED = (
    "torch",
    "torch.func",
    "numpy",
    "pytest",
    "_pytest.doctest",
    "hypothesis",
    "scipy.stats",
    "scipy.integrate",
    "scipy.special",
    "omegaconf",
    "pluggy",
    "rich.progress",
    "rich.table",
    "safetensors.torch",
    "yaml",
)

LEAST_SECONDS = 20.0  # no child is stopped sooner
SLACK = 5.0  # a child may take this many times what its tests take
MEMORY = 16 * 2**30  # bytes of address space of a child
KEPT = 3  # copies kept in .mutate/

# Pairs of names; each becomes the other.
SWAPS = (
    ("min", "max"),
    ("amin", "amax"),
    ("argmin", "argmax"),
    ("minimum", "maximum"),
    ("clamp_min", "clamp_max"),
    ("clamp_min_", "clamp_max_"),
    ("nanmin", "nanmax"),
    ("sin", "cos"),
    ("sinh", "cosh"),
    ("floor", "ceil"),
    ("add_", "sub_"),
    ("mul_", "div_"),
)

# Calls whose integers are axes, sizes or positions: those are no arithmetic.
SHAPE_CALLS = words(
    """
    all amax amin any argmax argmin argsort broadcast_to cat chunk count_nonzero
    cummax cummin cumprod cumsum diagonal dim empty expand expand_as eye flat_event flatten flip
    full gather index_add index_add_ index_copy index_fill index_select log_softmax logcumsumexp
    logsumexp mean median min_along movedim moveaxis narrow new_empty new_full new_ones new_zeros
    normalize ones permute prod rand randn repeat repeat_interleave reshape roll scatter
    scatter_add scatter_ scatter_add_ select size softmax sort split squeeze stack std sum swapaxes
    tensor_split tile topk transpose transpose_ unbind unflatten unfold unsqueeze
    var var_mean vector_norm view zeros vmap cross kthvalue
    """
)
SHAPE_KEYWORDS = words(
    """
    dim dims axis dim0 dim1 dim2 in_dims out_dims start_dim end_dim ndim maxsize stacklevel
    """
)

# Calls that are no arithmetic at all: words, metadata, the building of errors.
TEXT_CALLS = words(
    """
    option slot field print getattr setattr hasattr isinstance issubclass warn info debug warning
    TypeVar NewType ParamSpec import_module Component component Figure progress task
    """
)

# Functions whose first argument has one of these names draw a picture.
DISPLAY = frozenset({"figure", "axes"})

# A dataclass field's default is a default argument and stays, but for these, which state a fact.
FACTS = frozenset({"order", "calls_per_step", "boundary"})

# Subscripts of these are types.
TYPE_NAMES = words(
    """
    Literal Annotated Optional Union Callable ClassVar Final Any Iterable Iterator Mapping Sequence
    Generator Type list tuple dict set frozenset type Float Int Bool Shaped
    """
)
