"""Bias and variance of every gradient estimator at equal K, on models so small that all warmups can be listed.

    python scripts/estimator_variance.py                               # the tables of docs/estimators.md, minutes
    python scripts/estimator_variance.py --draws 60 --json found.json  # a rough look; JSON has every figure

A warmup holds at most two of three tokens, so there are 13 of them, and the exact gradient of log p(y|x) is known.
Warmups are drawn and scored by the engine (`warmup_step`). An estimate is a sum of the warmups' gradients, weighed as
the objective says, so its error needs no backward pass of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from warmup.errors import UserError
from warmup.files import check_writable, write_json
from warmup.studies.estimator_variance.comparison import compare_estimators
from warmup.studies.estimator_variance.estimates import GROUPS
from warmup.studies.estimator_variance.table import estimator_table


def main() -> None:
    """Both models; print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20 * GROUPS, help=f"of every estimator, a multiple of {GROUPS}")
    parser.add_argument("--json", type=Path, help="where every figure and its standard error go")
    options = parser.parse_args()
    if options.draws <= 0 or options.draws % GROUPS:
        parser.error(f"--draws must be a multiple of {GROUPS}")
    try:
        if options.json:
            check_writable(options.json)  # now, not after minutes
    except UserError as error:
        parser.error(str(error))
    console, results = Console(width=220), []
    for found in compare_estimators(options.draws):
        results += found.results
        console.print(f"\n{found.model}: {found.likeness}")
        console.print(estimator_table(found))
        console.print(f"standard errors of variances: at most {100 * found.worst_error:.0f}%\n")
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
