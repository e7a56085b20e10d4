"""Requirements as sentences and tables, for the terminal and Markdown alike: plain text, not escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dse.requirements.chip import RESOURCES, UNITS, WORDS, Resource
from dse.requirements.requirements import Candidate, Requirements
from dse.requirements.solver import TOLERANCE
from dse.requirements.use_case import UseCase
from dse.words import number, percent, plural, seconds
from simulator import catalog

BOUND: Final = "no machine below"
ALONE: Final = "least, all else free"
CHIP: Final = "balanced chip"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a heading; ``left`` of the first columns are text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def case_words(found: Requirements) -> str:
    """Return a use case in a sentence."""
    case, demand = found.case, found.demand
    each = plural(case.per_client, "accelerator")
    parallel = " ".join(f"{name}{degree}" for name, degree in (("TP", case.tp), ("PP", case.pp)) if degree > 1)
    clients = f"{plural(case.clients, 'client')} of {each}{f' ({parallel})' if parallel else ''}"
    return (
        f"{catalog.model(case.model).name} on {clients}, weights {case.weights}, KV {case.kv}; "
        f"{_load(case, demand.batch)}; "
        f"TTFT within {seconds(case.ttft_s)}{_share(case, case.ttft_percentile)}, "
        f"TPOT within {seconds(case.tpot_s)}{_share(case, case.tpot_percentile)}"
    )


def _load(case: UseCase, batch: int) -> str:
    if case.workload is not None:
        lengths = "requests as long as the study says" if case.alone else "requests as the study says"
        return f"{lengths}, {plural(batch, 'request')} decoding at once" if case.alone else lengths
    lengths = f"prompts of {case.prompt_tokens:,} and answers of {case.output_tokens:,} tokens"
    if case.rate_rps is not None:
        return f"{lengths}, {number(case.rate_rps)} requests/s"
    return f"{lengths}, {plural(batch, 'request')} decoding at once"


def _share(case: UseCase, percentile: float) -> str:
    return "" if not case.loaded else f" for {percentile:g} %"


def basis_words(found: Requirements) -> str:
    """Return what a hypothetical chip has in common with a catalogued one, and what is left where peaks are free."""
    case, free = found.case, found.unlimited
    kernels = catalog.kernel_profile(case.like)
    status = {"yes": "calibrated", "transferred": f"of {kernels.transferred_from}", "datasheet": "by datasheet"}
    said = f"kernels as on {case.like} ({status[kernels.calibrated]}), engine {case.engine}"
    if not math.isfinite(free.ttft_s):
        return f"{said}; nothing fits: {free.why}"
    return (
        f"{said}; with unlimited peaks TTFT is still {seconds(free.ttft_s)} and TPOT {seconds(free.tpot_s)}: "
        "start-ups of kernels and collectives, and the engine"
    )


def unreachable_words(found: Requirements) -> str:
    """Return why no chip will do."""
    broken = found.unlimited.broken
    limit = {"TTFT": found.case.ttft_s, "TPOT": found.case.tpot_s}.get(broken)
    promise = f"{broken} within {seconds(limit)}" if limit else broken
    return f"no chip keeps {promise} with this engine and such kernels; another --tp, --token-budget or --engine may"


def needed_table(found: Requirements) -> Table:
    """Return what each accelerator needs: the bound, what sets it, the least alone, and the balanced chip."""
    rows = []
    for resource, bound in found.bounds.items():
        rows.append(
            (
                f"{WORDS[resource]}, {_unit(resource, found.case)}",
                number(bound.value),
                f"{bound.promise}: {bound.formula}",
                _figure(found.alone.get(resource)),
                _figure(found.chip.of_resource(resource) if found.chip else None),
            )
        )
    return Table("Needed of each accelerator", ("resource", BOUND, "set by", ALONE, CHIP), tuple(rows))


def chips_table(found: Requirements) -> Table:
    """Return chips that just keep the promises: what more of one resource spares of the others."""
    rows = [
        (
            solution.label,
            *(number(solution.chip.of_resource(resource)) for resource in found.resources),
            seconds(solution.verdict.ttft_s),
            seconds(solution.verdict.tpot_s),
        )
        for solution in found.chips
    ]
    head = ("chip", *_columns(found.resources, found.case), "TTFT", "TPOT")
    return Table(f"Chips that just keep the promises, to {percent(TOLERANCE)}", head, tuple(rows))


def candidates_table(found: Requirements) -> Table:
    """Return the catalogued accelerators: what each has over the least that is needed, and what it reaches."""
    rows = [
        (
            each.accelerator,
            *(_ratio(each.ratios[resource]) for resource in found.resources),
            WORDS[each.scarcest],
            _reached(each.verdict.ttft_s),
            _reached(each.verdict.tpot_s),
            "yes" if each.verdict.keeps else f"no: {each.verdict.broken}",
            _calibrated(each.accelerator),
        )
        for each in found.candidates
    ]
    head = (
        "accelerator",
        *(WORDS[resource] for resource in found.resources),
        "scarcest",
        "TTFT",
        "TPOT",
        "keeps",
        "kernels",
    )
    over = f"“{ALONE}”" if found.alone else f"“{BOUND}”"
    return Table(f"Accelerators: what they have over {over}, and what they reach", head, tuple(rows))


def cases_table(all_found: Sequence[Requirements]) -> Table:
    """Return what several use cases need, each in three rows."""
    rows = []
    for found in all_found:
        figures: dict[str, dict[Resource, float]] = {
            BOUND: {resource: bound.value for resource, bound in found.bounds.items()},
            ALONE: found.alone,
            CHIP: {} if found.chip is None else {each: found.chip.of_resource(each) for each in found.resources},
        }
        for kind, values in figures.items():
            cells = (_figure(values.get(resource)) for resource in RESOURCES)
            rows.append((found.case.name, kind, *cells))
    head = ("use case", "needed of each accelerator", *_columns(RESOURCES, all_found[0].case))
    return Table("Needed of each accelerator", head, tuple(rows), left=2)


def matrix_table(all_found: Sequence[Requirements]) -> Table:
    """Return which catalogued accelerators do for which of several use cases, and what they have least of."""
    known = [{each.accelerator: each for each in found.candidates} for found in all_found]
    names = sorted(known[0], key=lambda name: (-sum(case[name].verdict.keeps for case in known), name))
    rows = tuple((name, *(_cell(case[name]) for case in known)) for name in names)
    head = ("accelerator", *(found.case.name for found in all_found))
    return Table(f"Keeps the promises, or what it breaks; scarcest resource over “{ALONE}”", head, rows, left=len(head))


def as_markdown(table: Table) -> str:
    """Return a table as Markdown, its title in bold."""
    rules = tuple("---" if place < table.left else "---:" for place in range(len(table.head)))
    lines = (f"| {' | '.join(cells)} |" for cells in (table.head, rules, *table.rows))
    return f"**{table.title}**\n\n" + "\n".join(lines)


def _cell(candidate: Candidate) -> str:
    scarcest = f"{WORDS[candidate.scarcest]} {_ratio(candidate.ratios[candidate.scarcest])}"
    return f"keeps, {scarcest}" if candidate.verdict.keeps else f"{candidate.verdict.broken}, {scarcest}"


def _columns(resources: Sequence[Resource], case: UseCase) -> tuple[str, ...]:
    return tuple(f"{WORDS[resource]}, {_unit(resource, case)}" for resource in resources)


def _unit(resource: Resource, case: UseCase) -> str:
    if resource != "arithmetic":
        return UNITS[resource]
    known = catalog.accelerator(case.like).peak_tflops
    return f"{UNITS[resource]} {case.weights if case.weights in known else '16 bits'}"


def _figure(value: float | None) -> str:
    return "–" if value is None else number(value)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _reached(value: float) -> str:
    return seconds(value) if math.isfinite(value) else "–"


def _calibrated(accelerator: str) -> str:
    kernels = catalog.kernel_profile(accelerator)
    return {"yes": "calibrated", "transferred": f"of {kernels.transferred_from}"}.get(kernels.calibrated, "datasheet")
