"""The answer of a family as Markdown: what ``dse run --markdown`` prints, and the pages of shipped studies quote."""

from __future__ import annotations

from dse.family.answer import Answer
from dse.family.tables import Table, front_table, members_table, nothing_feasible
from dse.words import plural, row


def answer_markdown(answer: Answer) -> str:
    """Return members, fronts and recommendations as tables and sentences; nothing in it depends on the machine."""
    blocks = []
    if len(answer.founds) > 1:
        blocks.append(_table(members_table(answer)))
    else:
        result = answer.founds[0].result
        blocks.append(
            f"{plural(len(result.simulated), 'design')} simulated, {len(result.feasible):,} feasible, "
            f"{len(result.front):,} on the front."
        )
    for front in answer.fronts:
        if front.recommended is None:
            blocks.append(f"{nothing_feasible(front)}.")
            continue
        table = front_table(answer, front)
        blocks += [f"**{table.title}**", _table(table)]
        if table.note:
            blocks.append(f"{table.note[0].upper()}{table.note[1:]}.")
        blocks.append(f"→ recommended: {row(front.recommended.deployment)}")
    return "\n\n".join(blocks)


def _table(table: Table) -> str:
    """Return a table; the recommended row begins with an arrow."""
    rules = ["---:" if place in table.numbers else "---" for place in range(len(table.head))]
    lines = [table.head, rules]
    for place, cells in enumerate(table.rows):
        first, *others = (cell.replace("|", "/") for cell in cells)
        lines.append([f"→ {first}" if place == table.marked else first, *others])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
