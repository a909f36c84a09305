"""Runs every clinical case and prints a table: `make cases`, or `python -m tests.cases [--product DIR] [NAME ...]`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.cases.clinical import CASES, Verdict
from tests.cases.product import Product

ROOT: Final = Path(__file__).parents[2]
INPUTS: Final = Path(os.environ.get("VITALLOOM_CASES", ROOT / "../shared/cases")) / "clinical"


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.cases", description=__doc__)
    options.add_argument("--product", type=Path, default=ROOT, help="Checkout to judge, installed in its .venv.")
    options.add_argument("names", nargs="*", metavar="NAME", help="Cases to run; all if none is named.")
    chosen = options.parse_args()
    if not INPUTS.is_dir():
        sys.stderr.write(f"no clinical cases in {INPUTS}; VITALLOOM_CASES names another folder\n")
        return 2
    cases = [case for case in CASES if not chosen.names or case.name in chosen.names]
    table = Table("case", "right value", "", "what came")
    wrong = 0
    with Product(chosen.product.resolve(), INPUTS) as product:
        for case in track(cases, description="cases", console=Console(stderr=True)):
            try:
                verdict = case.judge(product)
            except (KeyError, IndexError, ValueError) as error:
                verdict = Verdict(False, f"unexpected output: {error!r}")
            wrong += not verdict.right
            table.add_row(case.name, case.expected, "right" if verdict.right else "[bold red]WRONG[/]", verdict.got)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    sys.stdout.write(f"{len(cases) - wrong} of {len(cases)} cases right\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
