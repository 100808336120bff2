"""Build the documentation, strictly: `hatch run docs`.

    hatch run docs             the whole site into site/, and each package's own into build/docs/
    hatch run docs --site      the whole site only
    hatch run docs serve       a live preview that rebuilds at each change

The pages of claims show build/claims.json; it is measured first where it is missing, or older than
the code of a package.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ROOT / "build" / "claims.json"


def stale(claims, sources):
    """Whether a source is newer than the claims, or there are none."""
    if not claims.exists():
        return True
    made = claims.stat().st_mtime
    return any(path.stat().st_mtime > made for path in sources)


def measure():
    """Run the claims; their failures are on the pages, but a report there must be."""
    CLAIMS.parent.mkdir(exist_ok=True)
    began = time.time()
    command = [sys.executable, "-m", "genpath.cli", "verify", "--fast", "--json", str(CLAIMS)]
    outcome = subprocess.run(command, cwd=ROOT, check=False)
    if not CLAIMS.exists() or CLAIMS.stat().st_mtime < began - 1:
        sys.exit(f"genpath verify wrote no {CLAIMS.relative_to(ROOT)} (exit {outcome.returncode})")


def mkdocs(*arguments):
    """Run mkdocs; leave with its exit code if it fails."""
    began = time.time()
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", *arguments]
    outcome = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if outcome.returncode:
        sys.exit(outcome.returncode)
    print(f"mkdocs {' '.join(arguments)}: {time.time() - began:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="hatch run docs", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("build", "serve"), default="build")
    parser.add_argument("--site", action="store_true", help="not each package's own pages")
    parser.add_argument("--no-claims", action="store_true", help="leave the claims as they are")
    chosen = parser.parse_args()
    if not chosen.no_claims and stale(CLAIMS, ROOT.glob("packages/*/src/**/*.py")):
        measure()
    if chosen.what == "serve":
        mkdocs("serve", "--livereload")
        return
    mkdocs("build")
    if not chosen.site:
        for config in sorted(ROOT.glob("packages/*/mkdocs.yml")):
            mkdocs("build", "--config-file", str(config.relative_to(ROOT)))
    print(f"site: {ROOT / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
