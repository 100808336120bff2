"""The claims of this package in groups, so that each group is a file of tests of under a minute."""

from genpath.testing import claims_of

GROUPS = {
    "linear": ("path.interpolants.linear",),
    "presets": (
        "path.interpolants.elliptical",
        "path.interpolants.encoding_decoding",
        "path.interpolants.mirror",
        "path.interpolants.ornstein_uhlenbeck",
        "path.interpolants.rescaled_trigonometric",
        "path.interpolants.squared_trigonometric",
        "path.interpolants.trigonometric",
        "path.interpolants.variance_preserving",
        "law.interpolants.path_base",
    ),
    "general": (
        "path.interpolants.anisotropic",
        "path.interpolants.diffusive",
        "path.interpolants.glued_mirror",
        "path.interpolants.latent",
        "path.interpolants.point_mass",
        "law.interpolants.point",
        "dynamics.interpolants.diffusive",
        "interpolants.families",
        "interpolants.gaussianised",
        "interpolants.general",
    ),
    "motion": (
        "dynamics.interpolants.matrix_sde",
        "dynamics.interpolants.sde",
        "interpolants.grids",
        "interpolants.processes",
        "sampler.",
    ),
    "transport": (
        "coupling.",
        "interpolants.bridges",
        "interpolants.reflow",
        "interpolants.snapshots",
        "stage.",
    ),
    "densities": (
        "evaluation.",
        "interpolants.control",
        "interpolants.finite_volume",
        "likelihood.",
    ),
}
"""Group → the subjects that it has, or how they begin; all others are in "others"."""


def group_of(subject):
    """The group of a subject."""
    for group, subjects in GROUPS.items():
        if any(subject == s or (s.endswith(".") and subject.startswith(s)) for s in subjects):
            return group
    return "others"


def claims(group):
    """The claims of a group, bound to what they are about."""
    return [bound for bound in claims_of("interpolants") if group_of(bound.subject) == group]
