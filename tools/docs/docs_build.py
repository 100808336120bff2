"""Build the documentation, strictly: `hatch run docs`.

    hatch run docs             the whole site into site/, and each package's own into build/docs/
    hatch run docs --site      the whole site only
    hatch run docs serve       a live preview that rebuilds at each change

The pages of claims show build/claims.json; it is measured first where it is missing, or older than
the code of a package. (mkdocs --quiet is not used: it would hide warnings from --strict.)
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
    """Run the claims: a failure is shown on their pages, but a report there must be."""
    CLAIMS.parent.mkdir(exist_ok=True)
    partial = CLAIMS.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    command = [sys.executable, "-m", "genpath.cli", "verify", "--fast", "--json", str(partial)]
    outcome = subprocess.run(command, cwd=ROOT, check=False)
    if not partial.exists():
        sys.exit(f"genpath verify wrote no report (exit code {outcome.returncode})")
    partial.replace(CLAIMS)


def mkdocs(*arguments, **options):
    """Run mkdocs from the root."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, **options)


def build(config):
    """Build one site; its name, exit code, seconds and what mkdocs said."""
    began = time.time()
    name = str(config.relative_to(ROOT))
    done = mkdocs(
        "build", "--config-file", name, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return name, done.returncode, time.time() - began, done.stdout


def main():
    parser = argparse.ArgumentParser(prog="hatch run docs", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("build", "serve"), default="build")
    parser.add_argument("--site", action="store_true", help="not each package's own pages")
    parser.add_argument("--no-claims", action="store_true", help="leave the claims as they are")
    chosen = parser.parse_args()
    if not chosen.no_claims and stale(CLAIMS, ROOT.glob("packages/*/src/**/*.py")):
        measure()
    if chosen.what == "serve":
        sys.exit(mkdocs("serve", "--livereload").returncode)
    configs = [ROOT / "mkdocs.yml"]
    configs += [] if chosen.site else sorted(ROOT.glob("packages/*/mkdocs.yml"))
    failed = False
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, code, seconds, said in pool.map(build, configs):
            failed = failed or code != 0
            print(f"{name}: {'failed' if code else 'built'} in {seconds:.0f} s", flush=True)
            if code:
                print(said, flush=True)
    if failed:
        sys.exit(1)
    print(f"open {ROOT / 'site' / 'index.html'}, or see it by `hatch run docs serve`")


if __name__ == "__main__":
    main()
