"""Claims pages: what `genpath verify --json` wrote, as Markdown.

One section per claim: the statement, its formula, what was measured against which reference, and
the negative controls, which are slightly broken components that the same check must reject.
"""

import json
import re
from html import escape
from itertools import groupby

MARKER = re.compile(r"^<!-- claims of ([\w-]+) -->$", re.MULTILINE)
FEW = 4
COMMAND = "genpath verify --fast --json build/claims.json"
OWED = {
    "existence": "the path exists",
    "density": "the equation of its density",
    "reverse": "the reverse, or the score",
    "minimiser": "the minimiser of the objective",
    "control": "what the approximation error controls",
}


def with_claims(markdown, path):
    """The page with each line ``<!-- claims of PLUGIN -->`` replaced."""
    if not MARKER.search(markdown):
        return markdown
    return MARKER.sub(lambda found: section(found[1], path), markdown)


def section(plugin, path):
    """All claims of one plugin, or how to have them measured."""
    if not path.exists():
        return (
            '!!! note "Not measured in this build"\n\n'
            f"    The claims appear here after `{COMMAND}`, which `hatch run docs` runs by itself."
        )
    report = json.loads(path.read_text("utf-8"))
    claims = [claim for claim in report["claims"] if claim["plugin"] == plugin]
    if not claims:
        return "This package has no claims yet."
    lines = [introduction(report, claims), ""]
    for about, own in groupby(sorted(claims, key=subjects), key=subjects):
        own = list(own)
        lines += ["", f"## {about}", "", contents(own), ""]
        for claim in own:
            lines += ["", *one(claim)]
    return "\n".join(lines)


def introduction(report, claims):
    controls = sum(len(claim["controls"]) for claim in claims)
    failed = sum(not claim["passed"] for claim in claims)
    outcome = "all hold" if not failed else f"{failed} of them failed"
    return (
        f"{len(claims)} claims with {controls} negative controls: {outcome}. Measured on "
        f"{report['date'][:10]} by `{COMMAND}`, with genpath {report['genpath']}, torch "
        f"{report['torch']}, seed {report['seed']}, in "
        f"{sum(claim['seconds'] for claim in claims):.0f} s. What the columns mean is said in "
        "Concepts, under *Claims*."
    )


def contents(claims):
    rows = ["| claim | | tolerance used | controls rejected |", "|---|---|--:|--:|"]
    for claim in claims:
        worst = max((item["excess"] for item in claim["evidence"]), default=0.0)
        rejected = sum(control["rejected"] for control in claim["controls"])
        link = f"[{short(claim)}](#{anchor(claim)})"
        share = f"{rejected}/{len(claim['controls'])}"
        rows.append(f"| {link} | {badge(claim)} | {percent(worst)} | {share} |")
    return "\n".join(rows)


def one(claim):
    """The section of one claim."""
    yield f"### {short(claim)} {{ #{anchor(claim)} }}"
    yield ""
    yield f"{badge(claim)} {claim['statement']}"
    yield ""
    if claim["formula"]:
        yield from ["$$", claim["formula"].strip().strip("$"), "$$", ""]
    yield facts(claim)
    if claim.get("error"):
        yield from ["", f"The check raised: {cell(claim['error'])}"]
    yield from ["", *evidence(claim)]
    if claim["controls"]:
        yield from ["", *controls(claim)]
    if found := claim.get("detects"):
        size = number(found["size"])
        yield from ["", f"Smallest fault that is detected: {cell(found['fault'])}, δ = {size}."]


def facts(claim):
    parts = [f"`{claim['name']}`"]
    if owed := OWED.get(claim["owes"]):
        parts.append(owed)
    if claim["entries"]:
        parts.append("ledger " + ", ".join(claim["entries"]))
    return " · ".join(parts)


def badge(claim):
    if claim["passed"]:
        return '<span class="claim-state">holds</span>'
    return '<span class="claim-state failed">failed</span>'


def subjects(claim):
    """What the claim is about: one component or topic, or several."""
    subject = claim["subject"]
    names = [subject] if isinstance(subject, str) else subject
    return ", ".join(f"`{name}`" for name in names)


def evidence(claim):
    """The evidence, the tightest first; more than a few pieces are folded."""
    items = sorted(claim["evidence"], key=lambda item: -item["excess"])
    yield from table(items[:FEW])
    if len(items) > FEW:
        yield from ["", f'??? note "All {len(items)} measurements"', ""]
        yield from (f"    {line}" for line in table(items))


def table(items):
    yield "| measured | estimate | reference | allowed | used | because |"
    yield "|---|--:|--:|--:|--:|---|"
    for item in items:
        if item["z"] is not None and item["bound"] is not None:
            allowed = f"\\|z\\| = {number(abs(item['z']), 3)} ≤ {number(item['bound'], 3)}"
        else:
            allowed = f"± {number(item['tolerance'], 2)}"
        because = item["because"] + (f"; n = {item['samples']:,}" if item["samples"] else "")
        yield (
            f"| {cell(item['what'])}{'' if item['passed'] else ' **failed**'} "
            f"| {number(item['estimate'])} | {number(item['reference'])} | {allowed} "
            f"| {percent(item['excess'])} | {cell(because)} |"
        )


def controls(claim):
    yield "| broken on purpose | outcome |"
    yield "|---|---|"
    for control in claim["controls"]:
        outcome = "rejected" if control["rejected"] else "**not rejected**"
        margin = times(control["excess"])
        yield f"| {cell(control['name'])} | {outcome}, at {margin} the tolerance |"


def short(claim):
    """The last part of a claim's name, as words."""
    return re.split(r"[/.]", claim["name"])[-1].replace("-", " ")


def anchor(claim):
    return re.sub(r"[^\w-]+", "-", claim["name"])


def cell(text):
    """Text that cannot end a table cell or begin a tag."""
    return escape(str(text), quote=False).replace("|", "\\|").replace("\n", " ")


def number(value, digits=4):
    """A number that no line break divides."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}").replace("e+", "e")


def percent(excess):
    if excess is None:
        return "–"
    return "< 1 %" if 0 < excess < 0.01 else f"{100 * excess:.0f} %"


def times(excess):
    return "∞ ×" if excess is None or excess == float("inf") else f"{number(excess, 2)} ×"
