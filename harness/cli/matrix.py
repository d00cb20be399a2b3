"""Compare servers by their results.json: a table of servers and clauses.

A server is named after the folder of its results.json. The table is printed; with
--out, it is written as an HTML page. An asterisk after a verdict means that the clause
was judged in the form that it takes in the server's dialect; the dialects are listed
below the table.

Exit status: 0; 2 if a file is not a results.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.arguments import write
from harness.cli.optional_deps import needs_extra
from harness.report.matrix import dialects, markdown, merge, name_all, plain, read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", metavar="RESULTS.JSON", type=Path, nargs="+")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--out", metavar="FILE.html", type=Path, help="write an HTML page")
    shape.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.out:
        needs_extra(parser)
    records = []
    for path in options.results:
        try:
            records.append(read(path))
        except ValueError as error:
            parser.error(f"{path}: {error}")
    names, rows = name_all(options.results), merge(records)
    verdicts, spoken = [record["verdict"] for record in records], dialects(records)
    if options.out:
        from harness.report.page import matrix

        write(parser, options.out, matrix(names, verdicts, rows, spoken))
    else:
        table = markdown if options.markdown else plain
        sys.stdout.writelines(f"{line}\n" for line in table(names, verdicts, rows, spoken))
    return 0
