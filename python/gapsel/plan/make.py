"""From settings to a plan: look at both sides, measure, and put the sizes into the cost model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel import backends
from gapsel import memory as memory_rules
from gapsel.config import parse_size, rows_for
from gapsel.cost import measure_scale
from gapsel.errors import DataError, MissingDependencyError, UsageError
from gapsel.plan import calibrate, encoding, machines, ready, sample
from gapsel.plan.changes import changes
from gapsel.plan.cost import Problem, disk, memory, seconds
from gapsel.plan.records import Plan, Side
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.plan.calibrate import Stopwatch, Tables
    from gapsel.plan.cost import Kind, Machine

# The default encoder, where it is not at hand: dimensions, what it takes with torch.
_D, _ENCODER_BYTES = 384, 450e6
# Rows of the sample that tables are written of, and targets that sweeps are measured with at most.
_TABLE_ROWS, _TARGETS = 4096, 20_000


def make(settings: Settings, folder: str = ".", *, gpus: int = 0, nodes: int = 1, within: float = float("inf")) -> Plan:
    """Look at the input and at this machine, and return the plan of `gapsel run` with these settings.

    ``folder`` is one in whose file system the run folder would lie. ``gpus`` on each of ``nodes`` machines are planned
    for from stated constants; without them this machine is. ``within`` is how many seconds the run may take. Raises
    UsageError for what is not given or makes no sense, DataError for input that a run would refuse, as far as the
    sample shows it.
    """
    _check(settings, gpus, nodes, within)
    return _Planner(settings).plan(folder, gpus, nodes, within)


def _check(settings: Settings, gpus: int, nodes: int, within: float) -> None:
    for side in ("pool", "target"):
        if not getattr(settings, side) and not getattr(settings, f"{side}_vectors"):
            msg = f"no {side} is given: name its files (--{side}) or its vectors (--{side}-vectors)"
            raise UsageError(msg)
    if gpus < 0 or nodes < 1 or not within > 0:
        msg = f"gpus is {gpus}, nodes {nodes}, within {within}: give 0 GPUs or more, 1 node or more, some time"
        raise UsageError(msg)
    if nodes > 1 and not gpus:
        msg = f"nodes is {nodes}, without GPUs: say how many each of them has (--gpus)"
        raise UsageError(msg)


@dataclass(slots=True)
class _Planner:
    """One plan in the making: ``notes`` are what the reader has to know of how it was made."""

    settings: Settings
    watch: Stopwatch = field(default_factory=calibrate.Stopwatch)
    notes: list[str] = field(default_factory=list)
    missing: str = ""

    def plan(self, folder: str, gpus: int, nodes: int, within: float) -> Plan:
        """Make it."""
        pool, target = self._encoded([self._side(name) for name in ("pool", "target")])
        d = pool.some(_D).shape[1]
        if target.some(d).shape[1] != d:
            msg = f"pool and target have vectors of {d} and {target.some(d).shape[1]} dimensions: use one embedder"
            raise DataError(msg)
        tables = self._tables(pool, target)
        problem = self._problem(pool, target, d, tables)
        program = machines.held() + (_ENCODER_BYTES if problem.embeds and self.missing else 0.0)
        here = self._here(pool, target, problem, tables)
        machine = machines.gpus(gpus, nodes, here.rates, problem.token_flop) if gpus else here
        made = Plan(
            pool=pool, target=target, problem=problem, machine=machine, disk=disk(problem),
            memory=memory(problem, program), room=machines.room(folder, self._limit), seconds=seconds(problem, machine),
            within=within, busy=1.0 if gpus else self.watch.busy(here.threads), notes=tuple(self.notes), changes=(),
        )  # fmt: skip
        return replace(made, changes=changes(made))

    def _side(self, name: str) -> Side:
        s = self.settings
        texts, vectors = getattr(s, name), getattr(s, f"{name}_vectors")
        return Side(
            name,
            sample.take(texts, s.text_field, s.id_field) if texts else None,
            ready.look(vectors, s.vector_field) if vectors else None,
        )

    def _encoded(self, sides: list[Side]) -> list[Side]:
        """Count tokens and embed some documents of the sides that have no vectors."""
        if not any(side.embeds for side in sides):
            return sides
        try:
            encoder = encoding.load(self.settings)
        except MissingDependencyError as error:
            self.missing = str(error)
            self.notes.append(f"not measured: embedding, and tokens are guessed from characters ({error})")
            guess = [encoding.guess(side.kept, self.settings.max_tokens) if side.embeds else None for side in sides]
            return [replace(side, encoding=one) for side, one in zip(sides, guess, strict=True)]
        threads = self._threads if encoder.model.device.type == "cpu" else 0
        found: list[Side] = []
        for side in sides:
            # The pace is that of the first side; of the other one only some vectors are wanted.
            most = encoding.FEW if any(one.encoding for one in found) else encoding.EMBEDDED
            watch, seed = self.watch, self.settings.seed
            own = encoding.measure(encoder, side.kept, watch, threads, seed=seed, most=most) if side.embeds else None
            found.append(replace(side, encoding=own))
        return found

    @property
    def _limit(self) -> int:
        """What a run may hold."""
        return memory_rules.machine() // 2 if self.settings.memory is None else parse_size(self.settings.memory)

    @property
    def _threads(self) -> int:
        return calibrate.threads_of(self.settings.threads)

    def _problem(self, pool: Side, target: Side, d: int, tables: Tables) -> Problem:
        s, n = self.settings, round(pool.rows.value)
        scale = self._scale(pool.some(d), target.some(d))
        flop = next((one.token_flop for one in (pool.encoding, target.encoding) if one is not None), 0.0)
        return Problem(
            n=n, m=round(target.rows.value), d=d, k=rows_for(s.k, n), fit_rows=s.fit_rows,
            mass=s.mass, eps=scale[0], row_std=scale[1],
            texts=pool.texts is not None, embeds=pool.embeds, stored=_is_stored(pool), labels=s.label_field is not None,
            tokens=pool.tokens().value + target.tokens().value, token_flop=flop,
            number_bytes=2 if pool.vectors is None else pool.vectors.number_bytes,
            input_bytes=sum(_input_bytes(side) for side in (pool, target)),
            rejected=0.0 if pool.texts is None else pool.texts.rejected,
            row_bytes=0.0 if pool.texts is None else pool.texts.row_bytes,
            table_bytes=tables.store, score_bytes=tables.scores,
        )  # fmt: skip

    def _scale(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float]:
        """Return eps and the spread of a row's costs, both in mean costs."""
        s = self.settings
        scale = measure_scale(x[:2048], Target(y, np.full(len(y), 1.0 / len(y))), Cost(s.cost, s.normalize))
        mean = scale.mean or 1.0
        return scale.eps(s.relative_eps) / mean, max(scale.row_std, 1e-6 * mean) / mean

    def _tables(self, pool: Side, target: Side) -> Tables:
        sources = pool.texts.sources if pool.texts is not None else self.settings.pool_vectors[:1]
        own = [row.id or f"{sources[0]}:{row.number}" for row in pool.kept[:_TABLE_ROWS]]
        ids = own or [str(row) for row in range(_TABLE_ROWS)]
        nearest = [row.id or f"target:{row.number}" for row in target.kept] or ["0"]
        names = list(sources[: len(ids)]) if pool.kept else list(sources[:1]) * len(ids)
        return calibrate.tables(ids, names, nearest, self.watch)

    def _here(self, pool: Side, target: Side, problem: Problem, tables: Tables) -> Machine:
        """Measure this machine on vectors of the sample."""
        s, d, watch, threads = self.settings, problem.d, self.watch, self._threads
        x, cost = pool.some(d), Cost(s.cost, s.normalize)
        y = calibrate.spread(target.some(d), min(problem.m, _TARGETS), 3)
        backend = backends.choose("cpu" if s.on_cluster else s.backend, s.threads)
        rates: dict[Kind, float] = calibrate.sweeping(backend, x, y, cost, watch, threads)
        rates |= {
            "solve": calibrate.solving(problem.m, watch, threads),
            "turns": threads * calibrate.turning(backend, x, y, cost, watch),
            "hash": calibrate.hashing(watch),
            "check": calibrate.checking(x, watch),
            "table": tables.rate,
            "token": pool.encoding.rate if pool.encoding is not None else 0.0,
            "parse": 1.0 / pool.texts.parse_seconds if pool.texts is not None else float("inf"),
        }
        return machines.here(rates, threads, f"this machine, {threads} threads, backend {backend.name}")


def _is_stored(side: Side) -> bool:
    return side.texts is not None or side.vectors is None or side.vectors.stored


def _input_bytes(side: Side) -> float:
    return (side.texts.bytes if side.texts else 0.0) + (side.vectors.bytes if side.vectors else 0.0)
