"""Print the project's speed and memory figures on this machine, as a Markdown table.

Times are CPU times of one process, the least of several runs, and ratios the median over runs that take turns, unless
the row says otherwise. ``--long`` adds ten million requests. The traces are those of the reference data; a generated
load stands in for the Azure conversation trace where it is absent.
"""

from __future__ import annotations

import argparse

from tests.benchmarks.one_llm import one_llm
from tests.benchmarks.pipelines import pipelines
from tests.benchmarks.scale import many_requests, very_many_requests
from tests.benchmarks.shared_prefixes import shared_prefixes
from tests.benchmarks.start_up import start_up
from tests.benchmarks.study import study

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--long", action="store_true", help="ten million requests, too: a minute and 2 GB more")
    long = parser.parse_args().long
    print("| what | figure |\n|---|---|")
    one_llm()
    pipelines()
    shared_prefixes()
    many_requests()
    if long:
        very_many_requests()
    start_up()
    study()
