"""``dse capacity``: the highest rate within SLOs, what a rate costs at least, a sweep of rates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dse.cli.console import NOT_FEASIBLE, announce_compilation, err, out, print_whole
from dse.cli.described import described_deployment
from dse.cli.overrides import change_workload
from dse.once import capacity_figures, finite, rows_of
from simulator import SLO, Deployment, SpecError, Workload

if TYPE_CHECKING:
    import pandas as pd

    from dse.capacity import Capacity, Load, Trial

PLOTTED_RATES = 15
"""Rates of a figure where none are named: from a tenth of the answer to half as much again."""
_SECONDS = re.compile(r"[a-z0-9]+_p[\d.]+_s(_again)?")


def capacity(
    file: Annotated[
        Path | None,
        typer.Argument(help="YAML of a deployment (and workload), or the folder of a run: its front's designs"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="model, without a file; llama-3.1-70b if absent")] = None,
    accelerator: Annotated[str | None, typer.Option(help="accelerator, without a file; h100-sxm if absent")] = None,
    clients: Annotated[int | None, typer.Option(help="number of clients, without a file; 1 if absent")] = None,
    tp: Annotated[int | None, typer.Option(help="tensor parallelism, without a file; 4 if absent")] = None,
    workload: Annotated[Path | None, typer.Option(help="workload in YAML; its rate is where the search begins")] = None,
    trace: Annotated[Path | None, typer.Option(help="replay a trace instead, at other rates")] = None,
    requests: Annotated[int | None, typer.Option(help="number of requests")] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="metric:percentile:seconds, e.g. ttft:p90:0.5; may be repeated; the run's for a folder"),
    ] = None,
    tolerance: Annotated[str, typer.Option(help="how exact the rate is to be, e.g. 1%")] = "1%",
    replications: Annotated[int, typer.Option(help="draws of the load, each with an answer of its own")] = 1,
    rates: Annotated[
        str | None, typer.Option(help="sweep these rates, low:high:count, instead of the search alone")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="rates, e.g. 5,10,20: what each costs at least, with as many clients as needed")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="processes, for replications and designs")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
    page: Annotated[Path | None, typer.Option("--plot", help="write latencies over the rate to this HTML file")] = None,
) -> None:
    """Find the highest rate that a deployment sustains within its SLOs.

    The same requests are played at every rate, only the time between them is stretched. A rate is sustained if the
    SLOs hold, also when the requests come again right away, and no queue grows. Without SLOs the queue decides.

    **Examples**

        dse capacity --model llama-3.1-8b --accelerator l40s --tp 1 --slo ttft:p90:0.5 --slo tpot:p90:0.05

        dse capacity deployment.yaml --workload workload.yaml --slo ttft:p99:2 --replications 5

        dse capacity deployment.yaml --trace requests.csv --slo ttft:p90:0.5 --rates 2:30:8 --plot capacity.html

        dse capacity deployment.yaml --workload workload.yaml --slo ttft:p90:0.5 --cost 5,10,20,40

        dse capacity runs/chat --cost 10,20
    """
    from dse.capacity import Load
    from dse.output import check_place
    from dse.spec import check_session_metrics

    slos = [_slo(text) for text in slo or ()]
    limits = {"tolerance": _share(tolerance), "replications": _at_least_one("--replications", replications)}
    jobs = _at_least_one("--jobs", jobs)
    swept, asked = _range(rates), _list(cost)
    if page is not None:
        check_place(page)
    if file is not None and file.is_dir():
        options = {"model": model, "accelerator": accelerator, "clients": clients, "tp": tp, "workload": workload}
        options |= {"trace": trace, "requests": requests, "rates": rates, "plot": page}
        if given := [f"--{name}" for name, value in options.items() if value is not None]:
            raise SpecError(f"{', '.join(given)}: for a deployment; {file} is the folder of a run")
        _of_run(file, slos, asked, limits, jobs, as_json)
        return
    system, load = described_deployment(file, model=model, accelerator=accelerator, clients=clients, tp=tp)
    if workload is not None:
        load = Workload.from_yaml(workload)
    load = change_workload(load or _default_workload(), trace=trace, requests=requests)
    check_session_metrics((limit.name for limit in slos), load)
    announce_compilation()
    built = Load.of(load)
    found = _search(system, built, slos, limits, jobs)
    figures: dict[str, Any] = capacity_figures(found)
    tables: dict[str, pd.DataFrame] = {"tried": found.table}
    if swept is not None or page is not None:
        tables["sweep"] = _sweep(found, built, swept, page, replications, jobs)
    if asked:
        tables["least_cost"] = _least_cost({"deployment": system}, built, asked, slos, jobs)
    if as_json:
        _print_json(figures, tables)
    else:
        _show(found, tables, page)
    if not found.rate_rps:
        raise typer.Exit(NOT_FEASIBLE)


def _default_workload() -> Workload:
    """Return the load that ``dse simulate`` has without a workload."""
    arrivals = {"process": "statistics", "statistics": "azure-2023-conversation", "rate_rps": 1.0}
    return Workload.parse({"arrivals": arrivals, "lengths": {"statistics": "azure-2023-conversation"}})


def _slo(text: str) -> SLO:
    """Return the SLO that an option describes."""
    parts = text.split(":")
    try:
        metric, percentile, limit = parts[0], float(parts[1].removeprefix("p")), float(parts[2])
    except (IndexError, ValueError):
        raise SpecError(f"--slo: given {text!r}; expected metric:percentile:seconds, e.g. ttft:p90:0.5") from None
    return SLO.parse({"metric": metric, "percentile": percentile, "limit_s": limit}, source=f"--slo {text}")


def _share(text: str) -> float:
    """Return a share, given as 0.01 or 1%."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise SpecError(f"--tolerance: given {text!r}; expected a share above 0 and at most 1, e.g. 1% or 0.01")
    return share


def _at_least_one(option: str, value: int) -> int:
    if value < 1:
        raise SpecError(f"{option}: must be at least 1, given {value}")
    return value


def _range(text: str | None) -> list[float] | None:
    """Return the rates of low:high:count, equally far apart."""
    if text is None:
        return None
    try:
        low, high, count = text.split(":")
        first, last, steps = float(low), float(high), int(count)
    except ValueError:
        first, last, steps = 0.0, 0.0, 0
    if not (0 < first < last < float("inf") and 2 <= steps <= 1000):
        raise SpecError(f"--rates: given {text!r}; expected low:high:count with 2 to 1000 rates, e.g. 2:30:8")
    return [first + (last - first) * step / (steps - 1) for step in range(steps)]


def _list(text: str | None) -> list[float]:
    """Return rates that commas divide."""
    try:
        rates = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError:
        rates = [0.0]
    if not all(0 < rate < float("inf") for rate in rates):
        raise SpecError(f"--cost: given {text!r}; expected rates above 0, e.g. 5,10,20")
    return rates


def _search(system: Deployment, load: Load, slos: list[SLO], limits: dict[str, Any], jobs: int) -> Capacity:
    from dse.capacity import capacity_of

    with err.status("trying rates …") as status:

        def heard(trial: Trial) -> None:
            status.update(f"{trial.rate_rps:.4g}/s {'holds' if trial.holds else 'does not hold'}, trying on …")

        return capacity_of(system, load, slos, jobs=jobs, heard=heard, **limits)


def _sweep(
    found: Capacity, load: Load, rates: list[float] | None, page: Path | None, replications: int, jobs: int
) -> pd.DataFrame:
    """Return a sweep, and write its page if one is wanted."""
    from dse.capacity import sweep

    if rates is None:
        top = found.rate_rps or load.requests.rate_rps
        steps = (top * (0.1 + 1.4 * step / (PLOTTED_RATES - 1)) for step in range(PLOTTED_RATES))
        rates = [max(rate, load.lowest_rps) for rate in steps]
    with err.status(f"sweeping {len(rates)} rates …"):
        table = sweep(found.deployment, load, rates, found.slos, replications=replications, jobs=jobs)
    if page is not None:
        from dse.capacity.page import render_sweep
        from dse.output import write_whole
        from dse.words import workload_words

        said = workload_words(load.workload, load.requests) if load.workload else ""
        text = render_sweep(table, found, said)
        write_whole(page, lambda target: target.write_text(text, encoding="utf-8"))
    return table


def _least_cost(
    deployments: dict[str, Deployment], load: Load, rates: list[float], slos: list[SLO], jobs: int
) -> pd.DataFrame:
    from dse.capacity import least_cost

    with err.status("looking for the fewest clients …"):
        return least_cost(deployments, load, rates, slos, jobs=jobs)


def _of_run(
    folder: Path, slos: list[SLO], asked: list[float], limits: dict[str, Any], jobs: int, as_json: bool
) -> None:
    """Answer for the designs on the front of a run, with each of its workloads."""
    import pandas as pd
    from joblib import Parallel, delayed

    from dse import words
    from dse.capacity import Load, capacity_of
    from dse.output import load

    result = load(folder)
    if not result.distinct_front:
        raise SpecError(f"{folder}: the front of this run is empty")
    promises = slos or [SLO(metric=s.metric, percentile=s.percentile, limit_s=s.limit_s) for s in result.spec.slos]
    designs = {words.row(deployment): deployment for deployment in map(result.deployment, result.distinct_front)}
    announce_compilation()
    rows: list[dict[str, Any]] = []
    costs: list[pd.DataFrame] = []
    for case, requests in zip(result.spec.cases, result.load, strict=True):
        built = Load(requests, case.workload.plan, case.workload)
        named = {"workload": case.name} if len(result.spec.cases) > 1 else {}
        with err.status(f"trying rates for {words.plural(len(designs), 'design')} …"):
            found = Parallel(n_jobs=jobs)(
                delayed(capacity_of)(each, built, promises, **limits) for each in designs.values()
            )
        rows += [{**named, "design": name, **capacity_figures(each)} for name, each in zip(designs, found, strict=True)]
        if asked:
            costs.append(_least_cost(designs, built, asked, promises, jobs).assign(**named))
    tables = {"designs": pd.DataFrame(rows)}
    if costs:
        tables["least_cost"] = pd.concat(costs, ignore_index=True)
    if as_json:
        _print_json({}, tables)
        return
    for table in tables.values():
        _print(table)
        out.print()


def _print_json(figures: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    typer.echo(json.dumps({**finite(figures), **rows_of(tables)}, indent=2, allow_nan=False))


def _show(found: Capacity, tables: dict[str, pd.DataFrame], page: Path | None) -> None:
    from dse import words

    unit = f"{found.counted}/s"
    low, high = found.bracket_rps
    if found.rate_rps:
        several = ("in all draws", "in none") if len(found.searches) > 1 else ("holds", "not")
        text = f"sustains {words.number(found.rate_rps)} {unit}"
        text += f": {several[0]} at {words.number(low)}, {several[1]} at {words.number(high)}"
    else:
        text = f"sustains no rate, not even {words.number(high)} {unit}"
    out.print(text, style="bold", soft_wrap=True)
    if len(found.searches) > 1:
        interval = found.interval_rps
        said = ", ".join(words.number(rate) for rate in found.rates_rps)
        limits = f"{words.number(interval.low)} to {words.number(interval.high)}"
        out.print(f"{len(found.searches)} replications: {said}; 95 % interval of the mean {limits}", soft_wrap=True)
    out.print(f"limited by {found.limited_by}", soft_wrap=True)
    if found.holds_again_rps:
        rates = ", ".join(words.number(rate) for rate in found.holds_again_rps)
        out.print(f"a higher rate holds again: {rates} {unit}", soft_wrap=True)
    for name, table in tables.items():
        out.print()
        if name == "tried":
            first = table[table["replication"] == 0].drop(columns="replication")
            _print(first.dropna(axis="columns", how="all"))
        else:
            _print(_narrow(table) if name == "sweep" else table)
    if page is not None:
        out.print(f"\n{page}", soft_wrap=True)


def _narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a sweep that fit a window: promises, p90 of latencies, throughput and cost."""
    names = [name for name in table if not str(name).endswith(("_low", "_high", "_p50_s", "_p99_s"))]
    dropped = {"requests_per_s", "usd_per_hour", "energy_j_per_output_token", "power", "broken"}
    shown = table[[name for name in names if name not in dropped]]
    several = table.index.get_level_values("replication").max() > 0
    return shown.reset_index() if several else shown.droplevel("replication").reset_index()


def _print(frame: pd.DataFrame) -> None:
    """Print a table with numbers as people read them."""
    from rich.table import Table

    shown = Table(box=None)
    for name in frame:
        shown.add_column(str(name), justify="left" if frame[name].dtype == object else "right", no_wrap=True)
    for row in frame.to_dict("records"):
        shown.add_row(*(_cell(str(name), value) for name, value in row.items()))
    print_whole(shown)


def _cell(name: str, value: Any) -> str:
    from dse import words

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(words.number, value))
    if not isinstance(value, int | float):
        return str(value)
    return words.seconds(value) if _SECONDS.fullmatch(name) else words.number(value)
