"""Designs that have so much in common with a simulated one that its outcome is theirs, or a part of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dse.assessment import figures_of_cases
from dse.certificate.twins import LIMITS, ROUTER, Course, courses_of, has_room, runs_alike
from dse.evaluation import Evaluation, deployment_of
from dse.screening.distinct import Indices, distinct
from dse.screening.screen import Screen
from search_spaces.codes import Codes
from simulator.lowering.pools import PoolPlan, hand_over_ps


class Groups:
    """Designs that agree in some columns of their codes.

    Parameters
    ----------
    codes
        Designs, shape (designs, dimensions).
    columns
        In which the designs of a group agree.
    """

    def __init__(self, codes: Codes, columns: Sequence[int]) -> None:
        self.number = distinct(codes, columns).of_row
        self._order = np.argsort(self.number, kind="stable")
        self._begin = np.searchsorted(self.number[self._order], np.arange(int(self.number.max()) + 2))

    def of(self, row: int) -> Indices:
        """Return the rows of a design's group, its own among them."""
        group = self.number[row]
        return np.asarray(self._order[self._begin[group] : self._begin[group + 1]])


class Kinship:
    """Designs with something in common.

    Parameters
    ----------
    screen, codes
        Of the study, and its designs, shape (designs, dimensions).
    """

    def __init__(self, screen: Screen, codes: Codes) -> None:
        self._screen, self._spec, self._codes = screen, screen.spec, codes
        self._names = [dimension.name for dimension in screen.space.closed]
        self._settings = {name: pool.of(codes) for name, pool in screen.pools.items()}
        self._transfers: dict[tuple[int, int], tuple[int, int]] = {}

    def _columns(self, *, but: set[str]) -> list[int]:
        return [column for column, name in enumerate(self._names) if name not in but]

    # -- the same but for numbers of clients

    @cached_property
    def of_any_size(self) -> Groups:
        """Designs that differ in numbers of clients and in routers only."""
        return Groups(self._codes, self._columns(but={ROUTER, *(f"{name}.clients" for name in self._screen.pools)}))

    # -- the same course altogether

    @cached_property
    def _but_limits(self) -> Groups:
        # A service's largest batch is none of them: nobody noted whether it was ever reached.
        limits = {f"{pool}.{limit}" for pool in self._screen.pools for limit in LIMITS}
        return Groups(self._codes, self._columns(but={ROUTER, *limits}))

    @cached_property
    def _router(self) -> npt.NDArray[np.int16]:
        return np.asarray(self._codes[:, self._names.index(ROUTER)])

    def twins(self, row: int, evaluation: Evaluation, among: npt.NDArray[np.bool_]) -> Indices:
        """Return the designs that run the same course as one that was simulated.

        Parameters
        ----------
        row, evaluation
            The design that was simulated.
        among
            Which designs are of interest, shape (designs,).
        """
        rows = self._but_limits.of(row)
        rows = rows[among[rows] & (rows != row)]
        if not self._routes_alike(row):
            rows = rows[self._router[rows] == self._router[row]]
        for name, settings in self._settings.items():
            if settings[row] < 0 or not len(rows):
                continue
            courses, plans = courses_of(evaluation, self._spec, name), self._screen.pools[name].plans
            simulated = plans[settings[row]]
            if courses is None or simulated is None:
                return np.zeros(0, dtype=np.intp)
            alike = [
                (plan := plans[setting]) is not None and all(runs_alike(simulated, plan, each) for each in courses)
                for setting in settings[rows].tolist()
            ]
            rows = rows[np.array(alike, dtype=np.bool_)]
        return np.asarray(rows)

    def _routes_alike(self, row: int) -> bool:
        """Tell whether routers have no choice: there is one client to read prompts, and one to decode."""
        if len(self._spec.workload.plan.stages) > 1 or self._spec.space.lending:
            return False
        clients, roles = 0.0, []
        for name, pool in self._screen.pools.items():
            setting = self._settings[name][row]
            if setting >= 0 and (plan := pool.plans[setting]):
                clients = max(clients, float(self._screen.clients(self._codes[row : row + 1], name)[0]))
                roles.append(plan.pool.role)
        return clients == 1 and len(set(roles)) == len(roles)

    # -- the same course of prompts

    @cached_property
    def _ends(self) -> tuple[str, str] | None:
        """Names of the pools that read prompts and decode where these are apart; None if nothing is known of them."""
        roles = {name: {plan.pool.role for plan in pool.plans if plan} for name, pool in self._screen.pools.items()}
        reading = [name for name, role in roles.items() if role == {"prefill"}]
        decoding = [name for name, role in roles.items() if role == {"decode"}]
        space, plan = self._spec.space, self._spec.workload.plan
        shared = any(link.shared for link in space.links.values())
        if len(reading) != 1 or len(decoding) != 1 or len(plan.llm_stages) > 1 or space.lending or shared:
            return None
        follows = any(
            each.session for case in self._spec.cases for each in (case.workload, *(case.workload.classes or ()))
        )
        return None if follows or any(load.follows for load in self._screen.loads) else (reading[0], decoding[0])

    @cached_property
    def _but_decoding(self) -> Groups:
        assert self._ends is not None
        own = f"{self._ends[1]}."
        return Groups(self._codes, self._columns(but={name for name in self._names if name.startswith(own)}))

    def read_alike(self, row: int, evaluation: Evaluation, among: npt.NDArray[np.bool_]) -> Indices:
        """Return the designs whose prompts go through the same course as those of one that was simulated.

        Where prompts are read apart from decoding, who decodes has no part in it, as long as every request can be
        decoded and the KV that waits for its transfer never takes the room of prompts. Arguments as in :meth:`twins`.
        """
        if self._ends is None or self._settings[self._ends[0]][row] < 0:
            return np.zeros(0, dtype=np.intp)
        reading, decoding = self._ends
        reader = self._screen.pools[reading].plans[self._settings[reading][row]]
        courses = courses_of(evaluation, self._spec, reading)
        if courses is None or reader is None or reader.pool.prefix_cache:
            return np.zeros(0, dtype=np.intp)
        if any(figures["rejected"] for figures in figures_of_cases(evaluation.figures, self._spec)):
            return np.zeros(0, dtype=np.intp)
        rows = self._but_decoding.of(row)
        rows = rows[among[rows] & (rows != row)]
        decoders, ours = self._screen.pools[decoding].plans, self._transfer_ps(row)
        alike = [
            (plan := decoders[self._settings[decoding][other]]) is not None
            and all(
                _holds(plan, each) and _leaves_room(reader, each, ours, self._transfer_ps(other)) for each in courses
            )
            for other in rows.tolist()
        ]
        return np.asarray(rows[np.array(alike, dtype=np.bool_)])

    def _transfer_ps(self, row: int) -> tuple[int, int]:
        """Return start-up and time per token of the KV transfer in a design, picoseconds."""
        assert self._ends is not None
        key = (int(self._settings[self._ends[0]][row]), int(self._settings[self._ends[1]][row]))
        if key not in self._transfers:
            deployment = deployment_of(self._screen.space.design_of(self._codes[row]), self._spec)
            reader = next(pool for pool in deployment.pools if pool.name == self._ends[0])
            self._transfers[key] = hand_over_ps(reader, deployment)
        return self._transfers[key]


def _holds(decoder: PoolPlan, course: Course) -> bool:
    """Tell whether a client that decodes can hold even the longest request; what does not grow is left aside."""
    model, block = decoder.engine.model, decoder.pool.kv_memory.block_tokens
    return not model.window and not model.ssm and decoder.blocks * block >= course.longest_tokens


def _leaves_room(reader: PoolPlan, course: Course, ours: tuple[int, int], theirs: tuple[int, int]) -> bool:
    """Tell whether prompts have room although other transfers hold their KV for longer.

    All prompts that are done within the shortest transfer wait at the same time at its end, with the peak at most; who
    waits at any moment was done within the longest transfer before it.
    """
    times = 1
    if any(their > our for our, their in zip(ours, theirs, strict=True)):
        times += math.ceil((theirs[0] + theirs[1] * course.longest_tokens) / max(ours[0], 1))
    held = Course(course.running, course.step_tokens, course.kv_blocks * times, False, course.longest_tokens)
    return has_room(reader, held)
