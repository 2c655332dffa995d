"""Measures every ratio that the platform promises: `make bench`, or `python -m benchmarks NAME ...` for some.

Belongs here: running the measurements and printing one table. Not here: a measurement (one module each), verdicts (figures
seen are kept in RESULTS.md).
"""

import sys
from importlib import import_module

from benchmarks.pairs import Comparison, machine

MODULES: dict[str, str] = {
    "lifecycle": "a lifecycle whose stages do nothing against a one-op Dagster run",
    "replay_night": "a night of scanned runs that are played, against one-op Dagster runs",
    "startup": "commands against importing what they cannot do without",
    "language_model": "our front against the engine behind it; quantizations against full precision",
    "store": "the documented queries, many small files, and appending one result",
    "change_points": "the search for changes of level against Apache Otava, its false alarms and what it finds",
    "triage_trials": "deciding which trial comes next in a matrix; `python -m benchmarks.triage_trials` plays 200 matrices",
    "path_prover": "gaps, interaction coverage and substitution against their plain forms and the promised seconds",
}


def main(names: list[str]) -> int:
    """Run the named measurements (all without names) and print them; 2 for an unknown name."""
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        sys.stderr.write(f"no measurement {', '.join(unknown)}; use some of {', '.join(MODULES)}\n")
        return 2
    print(machine())
    for name in names or MODULES:
        print(f"\n{name}: {MODULES[name]}", flush=True)
        for comparison in import_module(f"benchmarks.{name}").measure():
            print(line(comparison), flush=True)
    return 0


def line(comparison: Comparison) -> str:
    """Return one comparison as a line: both medians in seconds, the median ratio with its range, the bound."""
    bound = "" if comparison.bound is None else f"  bound {comparison.bound:g}: {'met' if comparison.met else 'MISSED'}"
    low, high = comparison.ratio_range
    return (
        f"  {comparison.name:<72} {comparison.median_a:8.3f} s  / {comparison.median_b:8.3f} s  = "
        f"{comparison.ratio:7.3f} ({low:.3f}-{high:.3f}, n={len(comparison.pairs)}){bound}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
