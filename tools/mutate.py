"""Do the tests notice a changed number? Mutates the packages' arithmetic and runs the tests.

    hatch run mutate --seed 1 --count 200        a sample, drawn uniformly from all sites
    hatch run mutate --list --count 20           the sample, without running it
    hatch run mutate --only packages/core/src/genpath/jumps.py --count 0        all of one file
    hatch run mutate --mutant ID --against packages/core/tests/test_facts_samplers.py

A *mutant* is the sources with one operator, sign, constant or comparison changed
(`mutation/sites.py` says which). It is tried in a forked process against the tests that execute
its statement, shortest first, until one fails; no file of the tree is touched. A mutant that no
test notices is a *survivor*: a test is missing, or the mutant computes the same numbers and
belongs, with the reason, on the list `tools/mutants-equivalent.toml`.

The first run on a tree runs all its tests under coverage, once, and keeps a copy of the tree, the
measurement and all results in `.mutate/`; the same command goes on where it was stopped. --commit
takes the copy from a commit, and --resume goes on with the newest copy although the tree has
changed. --against uses neither: it tries one mutant of the tree as it is.

Exits with 1 if a survivor is not on the list, or a mutant could not be tried.
"""

import argparse
import random
import signal
import sys
from pathlib import Path

from mutation import baseline, children, report, running, settings, sites

ROOT = Path(__file__).resolve().parents[1]
AGAINST = "comes last: pytest's arguments, to try --mutant on the tree as it is"
LEAST = "no mutant is stopped sooner than after these seconds"


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--count", type=int, default=200, help="size of the sample; 0 for all")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried at a time")
    parser.add_argument("--only", action="append", default=[], help="a file or folder of sources")
    parser.add_argument("--include", action="append", default=[], help="one usually left out")
    parser.add_argument("--logic", action="store_true", help="also and, or, not")
    parser.add_argument("--mutant", action="append", default=[], help="ids, instead of a sample")
    parser.add_argument("--against", nargs=argparse.REMAINDER, default=[], help=AGAINST)
    parser.add_argument("--list", action="store_true", help="show the sample, run nothing")
    parser.add_argument("--commit", help="mutate the tree of a commit, such as HEAD")
    parser.add_argument("--resume", action="store_true", help="use the newest stored copy")
    parser.add_argument("--refresh", action="store_true", help="measure anew, forget the results")
    parser.add_argument("--again", action="store_true", help="try the sample's mutants anew")
    parser.add_argument("--least", type=float, default=settings.LEAST_SECONDS, help=LEAST)
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    return parser.parse_args(arguments)


def choose(found, options, root):
    """The sample: of the wanted files, in order of file and position."""
    if options.mutant:
        chosen = [site for site in found if site.id in options.mutant]
        missing = set(options.mutant) - {site.id for site in chosen}
        if missing:
            raise SystemExit(f"mutate: no such mutant: {', '.join(sorted(missing))}")
        return chosen
    wanted = [(root / path).resolve() for path in options.only]
    if wanted:
        found = [s for s in found if any((root / s.file).is_relative_to(path) for path in wanted)]
    if not options.count or options.count >= len(found):
        return found
    numbers = random.Random(options.seed).sample(range(len(found)), options.count)
    return [found[number] for number in sorted(numbers)]


def show(chosen, tree):
    for site in chosen:
        print(f"{site.id}  {site.file}:{site.number}  {site.function}  {site.mutation}")
        print(f"    - {site.line}\n    + {site.after((tree / site.file).read_bytes())}")


def against(chosen, root, arguments):
    """One mutant after the other on the tree itself; whether all were caught."""
    good = True
    for site in chosen:
        options = {
            "arguments": arguments,
            "replaced": (site.file, site.apply((root / site.file).read_bytes())),
        }
        answer = children.wait(children.fork(children.run_tests, root, 600.0, **options))
        result = running.judge(site, answer.get("ran", 0), answer)
        good = good and result.status in running.CAUGHT
        print(f"{site.id}  {result.status}  {result.by}  {result.message}")
    return good


def try_all(chosen, known, store, jobs):
    """Runs the sample under a progress bar."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # no thread of its own: the process forks
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, auto_refresh=False) as progress:
        done = sum(site.id in store.known for site in chosen)
        task = progress.add_task("mutants", total=len(chosen), completed=done)
        by_id = {site.id: site for site in chosen}

        def watch(result):
            progress.advance(task)
            if result.status not in running.CAUGHT:
                site = by_id[result.id]
                progress.console.print(
                    f"{result.status}: {site.id} {site.file}:{site.number} {site.mutation}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        running.run(chosen, known, store, jobs, watch, progress.refresh)


def ended(*_):
    """What SIGTERM does: an exception, so that the children are stopped too."""
    raise SystemExit(143)


def main(arguments=None):
    signal.signal(signal.SIGTERM, ended)
    options = parse(arguments)
    root = options.root.resolve()
    if options.against:
        if not options.mutant:
            raise SystemExit("mutate: --against goes with --mutant")
        children.preload(root)
        found = sites.all_sites(root, options.include, options.logic)
        return 0 if against(choose(found, options, root), root, options.against) else 1
    if options.list:
        found = sites.all_sites(root, options.include, options.logic)
        show(choose(found, options, root), root)
        return 0
    children.preload(root)
    folder, known = baseline.prepare(
        root, root / ".mutate", options.commit, options.refresh, options.resume
    )
    for name, message in known.failed.items():
        print(f"left out, for it fails without a mutant: {name}: {message}")
    tree = known.tree
    found = sites.all_sites(tree, options.include, options.logic)
    chosen = choose(found, options, tree)
    print(f"{len(known.tests)} tests, {len(found)} sites, {len(chosen)} chosen; {folder.name}")
    if failures := running.control([], known):
        raise SystemExit(f"mutate: the unmutated tree fails: {failures}")
    store = running.Store(folder / "results.jsonl")
    if options.again:
        for site in chosen:
            store.known.pop(site.id, None)
    known.least = options.least
    try_all(chosen, known, store, options.jobs)
    results = {site.id: store.known[site.id] for site in chosen}
    failures = running.control(results.values(), known)
    equivalent = report.read_equivalent(root / "tools" / "mutants-equivalent.toml")
    sources = {site.file: (tree / site.file).read_bytes() for site in chosen}
    text, good = report.account(chosen, results, equivalent, sources, failures)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
