"""``dse fit``: does a model fit on some accelerators, how many requests at once, how fast."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dse.cli.console import NOT_FEASIBLE, out, print_whole

if TYPE_CHECKING:
    from dse.explain.fitting import Fit, FitRequest, NoFit


def fit(
    model: Annotated[str, typer.Argument(help="catalogued model, or path of a Hugging Face config.json")],
    gpu: Annotated[list[str], typer.Option("--gpu", help="catalogued accelerator; may be repeated; all for every one")],
    tp: Annotated[int | None, typer.Option(help="tensor parallelism; 1, 2, 4, 8 as far as possible if absent")] = None,
    weights: Annotated[str, typer.Option(help="precision of weights: bf16, fp8, int8, fp4")] = "bf16",
    kv: Annotated[str, typer.Option(help="precision of the KV cache: bf16, fp8, int8")] = "bf16",
    prompt_tokens: Annotated[int, typer.Option(help="prompt of every request")] = 1024,
    output_tokens: Annotated[int, typer.Option(help="answer of every request")] = 256,
    max_batch: Annotated[
        int | None, typer.Option(help="requests of a batch at most", show_default="the engine's default, 256")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
) -> None:
    """Say whether a model fits, how many requests at once, how fast and at what price, without a simulation.

    Memory is that of one accelerator. "Alone" is one request, "full" as many requests of this length as the KV cache
    holds and a batch allows, each followed by another when it is done. Exit code 3 says that nothing fits.

    **Examples**

        dse fit llama-3.1-8b --gpu l40s

        dse fit llama-3.1-70b --gpu h100-sxm --gpu h200-sxm --weights fp8 --kv fp8

        dse fit qwen3-32b --gpu all --tp 2 --prompt-tokens 8000 --output-tokens 500

        dse fit deepseek-v3 --gpu b200 --tp 8 --weights fp8 --json
    """
    from dse.explain.fitting import FitRequest, NoFit, to_json
    from dse.explain.fitting import fit as look
    from simulator import SpecError, catalog

    gpus = list(catalog.accelerator_names()) if "all" in gpu else list(dict.fromkeys(gpu))
    request = FitRequest(model, weights, kv, prompt_tokens, output_tokens, max_batch)
    found = look(request, gpus, tp)
    if len(found) == 1 and isinstance(found[0], NoFit) and not as_json:
        hint = found[0].hint
        raise SpecError(f"{found[0].error} (fits with {hint})" if hint else str(found[0].error))
    if as_json:
        typer.echo(json.dumps([to_json(each) for each in found], indent=2, allow_nan=False))
    else:
        _show(request, found)
    if all(isinstance(each, NoFit) for each in found):
        raise typer.Exit(NOT_FEASIBLE)


def _show(request: FitRequest, found: list[Fit | NoFit]) -> None:
    from rich.table import Table

    from dse.explain.fitting import NoFit
    from dse.provenance import caveat
    from dse.words import number, seconds
    from simulator import catalog

    model = catalog.model(request.model)
    out.print(
        f"{model.name}, {model.parameters / 1e9:.1f} B parameters in {request.weights}, KV in {request.kv}; "
        f"requests of {request.prompt_tokens:,} + {request.output_tokens:,} tokens",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("client", no_wrap=True)
    for heading in (
        "weights GB",
        "work GB",
        "KV GB",
        "KV tokens",
        "at once",
        "limited by",
        "TTFT alone",
        "TPOT alone",
        "TPOT full",
        "tokens/s full",
        "USD/M tokens",
    ):
        table.add_column(heading, justify="left" if heading == "limited by" else "right")
    table.add_column("bound by")
    missing = []
    for each in found:
        client = f"{each.pool.accelerator} TP{each.pool.tp}"
        if isinstance(each, NoFit):
            table.add_row(client, *["–"] * 11, "does not fit", style="dim")
            hint = f"; fits with {each.hint}" if each.hint else "; no tp or precision fits"
            missing.append(f"{client}: {each.shortage_bytes / 1e9:.1f} GB missing on each{hint}")
            continue
        many = (
            f"{each.requests:,}" if each.requests == each.kv_requests else f"{each.requests:,} of {each.kv_requests:,}"
        )
        table.add_row(
            client,
            f"{each.weight_bytes / 1e9:.1f}",
            f"{each.working_bytes / 1e9:.1f}",
            f"{each.kv_bytes / 1e9:.1f}",
            f"{each.kv_tokens:,}",
            many,
            each.limit,
            seconds(each.ttft_s),
            seconds(each.tpot_alone_s),
            seconds(each.tpot_s),
            number(each.tokens_per_s),
            f"{each.usd_per_million_output_tokens:.2f}",
            each.bound,
        )
    print_whole(table)
    for line in missing:
        out.print(line, soft_wrap=True)
    note = caveat(each.pool for each in found if not isinstance(each, NoFit))
    if note:
        out.print(note, style="dim", soft_wrap=True)
