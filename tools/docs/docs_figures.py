"""Figures computed while the site is built, as SVG inside the page.

Lines and words that have no colour of their own are drawn in ``currentColor``, and the ground is
transparent, so that one figure serves the light and the dark palette. Words must be plain text: no
TeX, since text is left to the browser.
"""

import io
import re

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

INK = "#7f7f7e"
BLUE, ORANGE, GREEN, PURPLE = "#4c86cf", "#e0783a", "#3f9e6b", "#a173c7"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "genpath",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "font.size": 10,
    "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, PURPLE]),
}


def style():
    """The look of all figures; call it before the first axes are made."""
    plt.rcParams.update(STYLE)
    return plt


def panels(count, width=2.4, height=2.4, limit=None):
    """A row of axes; square panels without ticks where ``limit`` is given."""
    style()
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False)
    for axis in axes[0]:
        if limit is not None:
            axis.set(
                xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[]
            )
            axis.spines[:].set_visible(False)
    return figure, axes[0]


def dots(axis, points, color=BLUE, size=2.0):
    """A cloud of points, kept small in the page by being an image."""
    x, y = points[:, 0].numpy(), points[:, 1].numpy()
    axis.scatter(x, y, s=size, color=color, linewidths=0, alpha=0.55, rasterized=True)


def svg(figure, description):
    """The figure as HTML, to be printed by a block with ``html="true"``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", dpi=130, metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 inherit", text)
    text = text.replace("font: ", "font-size: ").replace("px inherit", "px")
    text = text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
    text = re.sub(r"\n\s*", "\n", text).replace("\n\n", "\n")
    return f'<div class="genpath-figure">{text.strip()}</div>'
