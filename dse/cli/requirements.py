"""``dse requirements``: which arithmetic, memory bandwidth, memory and links does a chip need for a use case?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.console import NOT_FEASIBLE, announce_compilation, out, print_whole

if TYPE_CHECKING:
    from dse.requirements import Requirements, UseCase
    from dse.requirements.words import Table

OF_LENGTHS = {"prompt": "prompt_tokens", "output": "output_tokens", "ttft": "ttft_s", "tpot": "tpot_s"}
"""Options that a model needs, and the fields of a use case that they are."""


def requirements(
    what: Annotated[
        str, typer.Argument(help="model to serve; or a study, shipped or YAML, with its load and promises")
    ],
    prompt: Annotated[int | None, typer.Option(help="tokens of every prompt")] = None,
    output: Annotated[int | None, typer.Option(help="tokens of every answer")] = None,
    ttft: Annotated[float | None, typer.Option(help="limit of the time to the first token, seconds")] = None,
    tpot: Annotated[float | None, typer.Option(help="limit of the time per output token, seconds")] = None,
    rate: Annotated[
        float | None, typer.Option(help="requests per second of all clients; requests alone if absent")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="share of requests that keep the limits, percent", show_default="90")
    ] = None,
    accelerators: Annotated[
        int | None, typer.Option(help="accelerators in all", show_default="one client: tp x pp")
    ] = None,
    tp: Annotated[int | None, typer.Option(help="tensor parallelism", show_default="1; of a study its largest")] = None,
    pp: Annotated[int | None, typer.Option(help="pipeline stages", show_default="1")] = None,
    weights: Annotated[
        str | None, typer.Option(help="precision of weights: bf16, fp8, int8, fp4", show_default="bf16")
    ] = None,
    kv: Annotated[
        str | None, typer.Option(help="precision of the KV cache: bf16, fp8, int8", show_default="bf16")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="requests that decode at once; with --rate the largest batch", show_default="1, or the engine's"
        ),
    ] = None,
    token_budget: Annotated[
        int | None, typer.Option(help="tokens of a step at most", show_default="the engine's")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="accelerator whose kernels reach the same shares of the peaks", show_default="h100-sxm"),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="of a study only the lengths: --batch requests at once, no load")
    ] = False,
    engine: Annotated[str | None, typer.Option(help="engine or path of a profile", show_default="vllm-0.15")] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", help="accelerator to hold against it; may be repeated", show_default="the whole catalogue"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown, for documents")] = False,
) -> None:
    """Say which FLOPS, memory bandwidth, memory and link bandwidth a chip needs for a use case.

    Bounds that no machine can go below; the least of each in the simulator's cost model, with what kernels reach and
    what an engine adds; chips that just keep the promises; and how far catalogued accelerators are from them. With a
    rate the promises are held against a simulation. Exit code 3 says that no chip keeps them.

    **Examples**

        dse requirements llama-3.1-405b --prompt 8000 --output 500 --ttft 2 --tpot 0.03 --tp 8 --weights fp8 --kv fp8

        dse requirements llama-3.1-70b --prompt 3000 --output 1000 --ttft 0.5 --tpot 0.03 --tp 4 --rate 2

        dse requirements future-platform

        dse requirements future-platform/chat/today --gpu b200 --gpu "b200(memory_bandwidth_gb_per_s=16000)"

        dse requirements future-platform --alone --batch 4 --tp 1 --json
    """
    from dse.requirements import requirements_of
    from dse.requirements.figures import to_json
    from simulator import SpecError

    if as_json and markdown:
        raise SpecError("--json and --markdown contradict each other: choose one")
    given: dict[str, Any] = {
        "prompt_tokens": prompt,
        "output_tokens": output,
        "ttft_s": ttft,
        "tpot_s": tpot,
        "rate_rps": rate,
        "ttft_percentile": percentile,
        "tpot_percentile": percentile,
        "accelerators": accelerators,
        "tp": tp,
        "pp": pp,
        "weights": weights,
        "kv": kv,
        "batch": batch,
        "token_budget_tokens": token_budget,
        "like": like,
        "engine": engine,
        "alone": alone or None,
    }
    cases = _cases(what, {name: value for name, value in given.items() if value is not None})
    if any(case.loaded for case in cases):
        announce_compilation()
    short = len(cases) > 1 and not as_json
    found = [requirements_of(case, gpu, balanced_only=short) for case in cases]
    if as_json:
        figures = [to_json(each) for each in found]
        typer.echo(json.dumps(figures[0] if len(figures) == 1 else figures, indent=2, allow_nan=False))
    else:
        _show(found, markdown=markdown)
    if not all(each.reachable for each in found):
        raise typer.Exit(NOT_FEASIBLE)


def _cases(what: str, given: dict[str, Any]) -> Sequence[UseCase]:
    """Return the use cases of a study, or the one that options describe."""
    from dse.requirements import UseCase
    from dse.requirements.study import cases_of, is_study
    from simulator import SpecError

    if is_study(what):
        refused = [f"--{option}" for option, field in {**OF_LENGTHS, "rate": "rate_rps"}.items() if field in given]
        if refused:
            raise SpecError(f"{', '.join(refused)}: a study says its own load and promises; change its file instead")
        return cases_of(what, given)
    missing = [f"--{option}" for option, field in OF_LENGTHS.items() if field not in given]
    if missing:
        raise SpecError(f"{', '.join(missing)}: missing; a model needs lengths and limits, a study has its own")
    return (UseCase.parse({"name": what, "model": what, **given}, source="options"),)


def _show(found: Sequence[Requirements], *, markdown: bool) -> None:
    from dse.requirements import words

    blocks: list[str | Table] = []
    for each in found:
        name = f"{each.case.name}: " if len(found) > 1 else ""
        blocks.append(f"{name}{words.case_words(each)}")
        if len(found) == 1:
            blocks.append(words.basis_words(each))
        if not each.reachable:
            blocks.append(words.unreachable_words(each))
    if len(found) > 1:
        blocks += [words.cases_table(found), words.matrix_table(found)]
    else:
        blocks.append(words.needed_table(found[0]))
        blocks += [words.chips_table(found[0])] if found[0].chips else []
        blocks.append(words.candidates_table(found[0]))
    if markdown:
        typer.echo("\n\n".join(f"{each}." if isinstance(each, str) else words.as_markdown(each) for each in blocks))
        return
    for block in blocks:
        if isinstance(block, str):
            out.print(block, soft_wrap=True)
        else:
            out.print()
            _print(block)


def _print(table: Table) -> None:
    from rich.table import Table as Grid

    out.print(table.title, style="bold", soft_wrap=True)
    grid = Grid(box=None, pad_edge=False)
    for place, heading in enumerate(table.head):
        grid.add_column(heading, justify="left" if place < table.left else "right", no_wrap=True)
    for row in table.rows:
        grid.add_row(*row)
    print_whole(grid)
