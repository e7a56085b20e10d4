"""Steps in words, for the terminal and the page alike: plain text, not escaped."""

from __future__ import annotations

from dse.explain.breakdown import Conditions
from dse.words import number, percent, plural, seconds
from simulator.performance.explanation import StepExplanation


def scaled(value: float) -> str:
    """Return a number with a prefix of a thousand: ``1.20 T``."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def step_words(step: StepExplanation, conditions: Conditions) -> str:
    """Return what a step is and how long it takes."""
    prompt = sum(load.prompt_tokens for load in step.loads)
    decodes = max(load.decodes for load in step.loads)
    parts = [f"a prompt of {prompt:,} tokens"] if prompt else []
    if decodes:
        parts.append(f"{plural(decodes, 'decode')} with {conditions.context_tokens:,} tokens of context each")
    several = f" in {len(step.loads)} steps" if len(step.loads) > 1 else ""
    return f"{step.name}: {' beside '.join(parts)}{several}: {seconds(step.seconds)}"


def step_totals(step: StepExplanation) -> str:
    """Return the figures of a step in one line."""
    said = (
        f"{number(step.tokens_per_s)} tokens/s, MFU {percent(step.mfu)}, MBU {percent(step.mbu)}, "
        f"engine {percent(step.share('engine'))}"
    )
    waiting = step.share("waiting")
    said += f", waiting for other stages {percent(waiting)}" if waiting else ""
    return f"{said}; bound by {step.bound}"
