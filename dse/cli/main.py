"""Entry point of the command ``dse``."""

from __future__ import annotations

import sys

import typer

from dse.cli.calibrate import calibrate_app
from dse.cli.capacity import capacity
from dse.cli.compare import compare
from dse.cli.console import BAD_INPUT, err
from dse.cli.explain import explain
from dse.cli.export import export
from dse.cli.fit import fit
from dse.cli.imports import import_app
from dse.cli.list import list_app
from dse.cli.plan import plan
from dse.cli.profile import profile
from dse.cli.report import report
from dse.cli.requirements import requirements
from dse.cli.run import run
from dse.cli.schema import schema
from dse.cli.serve import serve
from dse.cli.simulate import simulate
from dse.cli.token import token_app
from dse.cli.validate import validate
from dse.cli.warmup import warmup
from dse.cli.why import why
from dse.cli.worker import worker
from simulator.errors import SpecError

app = typer.Typer(
    name="dse",
    help="Which hardware, batching and placement serve an LLM within its SLOs at the least cost?",
    epilog="Exit codes: 0 done, 2 input at fault, 3 nothing keeps the SLOs, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(why)
app.command()(capacity)
app.command()(simulate)
app.command()(compare)
app.command()(fit)
app.command()(plan)
app.command()(requirements)
app.command()(explain)
app.command()(validate)
app.add_typer(calibrate_app)
app.command()(export)
app.add_typer(import_app)
app.command()(report)
app.add_typer(list_app)
app.command()(schema)
app.command()(serve)
app.command()(worker)
app.add_typer(token_app)
app.command()(warmup)
app.command()(profile)


def main() -> None:
    """Run the command line; a person's error is one line and exit code 2."""
    try:
        app()
    except SpecError as error:
        err.print(f"error: {error}", soft_wrap=True)
        sys.exit(BAD_INPUT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        err.print(f"error: {place}{error.strerror or error}", soft_wrap=True)
        sys.exit(BAD_INPUT)
