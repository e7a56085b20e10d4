"""``dse schema``: the JSON Schema of what a person writes."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer


def schema(
    kind: Annotated[Literal["study", "deployment", "workload"], typer.Argument(help="which specification")],
) -> None:
    """Print the JSON Schema of a specification, for editors and other programs.

    **Example**

        dse schema study > study.schema.json
    """
    from dse.family import FamilySpec
    from simulator import Deployment, Workload
    from simulator.spec import Spec

    kinds: dict[str, type[Spec]] = {"study": FamilySpec, "deployment": Deployment, "workload": Workload}
    typer.echo(json.dumps(kinds[kind].model_json_schema(), indent=2))
