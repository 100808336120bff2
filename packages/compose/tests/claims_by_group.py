"""The claims of this package in groups, so that each group is a file of tests of under a minute."""

from genpath.testing import claims_of

GROUPS = {
    "theory": (
        "compose.compositions",
        "compose.corrected-laws",
        "compose.correctors",
        "compose.equations",
        "compose.experts",
        "compose.foreign",
        "compose.mixtures",
        "compose.potentials",
        "compose.ratio-paths",
    ),
    "existence": (
        "compose.bumps",
        "compose.certificates",
        "compose.radii",
        "compose.repair",
        "compose.supports",
        "compose.tails",
    ),
    "particles": (
        "compose.jump-corrector",
        "compose.particles",
        "compose.resampled-particles",
        "compose.resampling-schemes",
        "compose.runs",
    ),
    "rewards": (
        "compose.chain-particles",
        "compose.chains",
        "compose.finite-forms",
        "compose.finite-potentials",
        "compose.proposals",
        "compose.steering",
        "compose.superposition",
        "compose.tilts",
        "compose.tracked-superposition",
        "compose.twists",
    ),
}
"""Group → the subjects that it has; all others are in "others"."""


def group_of(subject):
    """The group of a subject."""
    return next((group for group, subjects in GROUPS.items() if subject in subjects), "others")


def claims(group):
    """The claims of a group, bound to what they are about."""
    return [bound for bound in claims_of("compose") if group_of(bound.subject) == group]
