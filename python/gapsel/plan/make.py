"""From settings to a plan: look at both sides, measure, and put the sizes into the cost model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gapsel import backends
from gapsel import memory as memory_rules
from gapsel.config import POOL_WEIGHTS, parse_count, parse_size, rows_for
from gapsel.corpus import kind_of
from gapsel.cost import measure_scale
from gapsel.embed import SCALED
from gapsel.errors import DataError, MissingDependencyError, UsageError
from gapsel.pipeline.inputs.labels import check_labels
from gapsel.pipeline.inputs.losses import check_losses
from gapsel.pipeline.inputs.rules import FILE, check_rules
from gapsel.pipeline.vectors.moments import SAMPLED
from gapsel.pipeline.vectors.sides import check_base, sides
from gapsel.plan import budgets, calibrate, encoding, machines, ready, sample
from gapsel.plan.changes import changes
from gapsel.plan.cost import Problem, disk, memory, seconds
from gapsel.plan.records import Plan, Side
from gapsel.plan.unknown import unknown
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.config import Settings
    from gapsel.plan.calibrate import Stopwatch, Tables
    from gapsel.plan.cost import Kind, Machine
    from gapsel.plan.encoding import Encoding

# What a cluster's GPUs would do, and nobody has measured.
_SWEEPS: tuple[Kind, ...] = ("exact", "rough", "gram")
# The default encoder, where it is not at hand: dimensions, what it takes with torch.
_D, _ENCODER_BYTES = 384, 450e6
# What passing over a line of JSON takes of parsing it.
_PASSED_OVER = 0.1
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
    check_base(settings)
    check_losses(settings)
    check_labels(settings)
    check_rules(settings)
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
        s = self.settings
        found = self._encoded([self._side(name) for name in sides(s)])
        d = self._width(found)
        losses = self._losses(found[0])
        tables = self._tables(*found[:2])
        problem = self._problem(found, d, tables, losses)
        program = machines.held() + (_ENCODER_BYTES if problem.embeds and self.missing else 0.0)
        here = self._here(found, problem, tables, losses)
        machine = machines.gpus(gpus, nodes, here.rates, problem.token_flop, problem.loss_flop) if gpus else here
        made = Plan(
            sides=tuple(found), problem=problem, machine=machine, disk=disk(problem),
            memory=memory(problem, program), room=machines.room(folder, self._limit), seconds=seconds(problem, machine),
            within=within, busy=1.0 if gpus else self.watch.busy(here.threads),
            budget=None if s.tokens is None else parse_count(s.tokens),
            notes=(*self.notes, *unknown(s, gpus=gpus)), changes=(),
        )  # fmt: skip
        return replace(made, changes=changes(made))

    def _width(self, found: list[Side]) -> int:
        """Return the dimensions of the vectors, which all sides have alike."""
        pool = found[0]
        d = int(pool.some(self._assumed_width).shape[1])
        for side in found[1:]:
            own = side.some(d).shape[1]
            if own != d:
                msg = f"pool and {side.name} have vectors of {d} and {own} dimensions: use one embedder"
                raise DataError(msg)
        return d

    @property
    def _assumed_width(self) -> int:
        return self.settings.gradient_dims if self.settings.features == "gradient" else _D

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

    def _losses(self, pool: Side) -> Encoding | None:
        """Measure the model that says the losses of the pool's documents; None where none does, or it is not at hand.

        What it says of a document is one number, and no vector.
        """
        if self.settings.loss_weights is None or self.missing:
            return None
        try:
            model = encoding.load_losses(self.settings)
        except MissingDependencyError as error:
            self.missing = str(error)
            self.notes.append(f"not measured: the losses of the pool ({error})")
            return None
        threads = self._threads if model.model.device.type == "cpu" else 0
        return encoding.measure(model, pool.kept, self.watch, threads, seed=self.settings.seed, most=encoding.FEW)

    @property
    def _limit(self) -> int:
        """What a run may hold."""
        return memory_rules.machine() // 2 if self.settings.memory is None else parse_size(self.settings.memory)

    @property
    def _threads(self) -> int:
        return calibrate.threads_of(self.settings.threads)

    def _problem(self, found: list[Side], d: int, tables: Tables, losses: Encoding | None) -> Problem:
        s, pool, by_name = self.settings, found[0], {side.name: side for side in found}
        n = round(pool.rows.value)
        rows = {name: round(side.rows.value) for name, side in by_name.items()}
        eps, row_std = self._scale(pool.some(d), by_name["target"].some(d), s.relative_eps)
        avoided = self._scale(pool.some(d), by_name["avoid"].some(d), s.of_avoided[0]) if "avoid" in rows else (eps, 0)
        flop = next((one.encoding.token_flop for one in found if one.encoding is not None), 0.0)
        return Problem(
            n=n, m=rows["target"], d=d, k=rows_for(s.k, n) if s.tokens is None else budgets.rows_of(s, pool),
            fit_rows=s.fit_rows, mass=s.mass, eps=eps, row_std=row_std, base=rows.get("base", 0),
            avoided=rows.get("avoid", 0), avoided_eps=avoided[0], tasks=len(s.paths_per_task) or 1,
            balanced=bool(s.paths_per_task) and s.balance == "gap", robust=s.robust > 0, capped=bool(s.at_most),
            arrays=_has_arrays(s),
            texts=pool.texts is not None, embeds=pool.embeds, stored=_is_stored(pool),
            lying=sum(rows[side.name] for side in found[1:] if not _is_stored(side)), labels=s.label_field is not None,
            tokens=sum(side.tokens().value for side in found) + self._moments(pool), token_flop=flop,
            loss_tokens=0.0 if losses is None else losses.mean_tokens().value * n,
            loss_flop=0.0 if losses is None else losses.token_flop,
            brought=float(sum(side.vectors.n * d for side in found if side.vectors is not None and _is_stored(side))),
            passes=_passes(s, pool), few_rows=_few_rows(pool),
            number_bytes=self._number_bytes(pool), input_bytes=sum(map(_input_bytes, found)),
            rejected=0.0 if pool.texts is None else pool.texts.rejected,
            row_bytes=0.0 if pool.texts is None else pool.texts.row_bytes,
            table_bytes=tables.store, score_bytes=tables.scores,
        )  # fmt: skip

    def _moments(self, pool: Side) -> float:
        """Return the tokens of the documents that are encoded once more, for what their features are scaled by."""
        if self.settings.features not in SCALED or pool.encoding is None:
            return 0.0
        return pool.encoding.mean_tokens().value * min(SAMPLED, pool.rows.value)

    @staticmethod
    def _number_bytes(pool: Side) -> int:
        return 2 if pool.vectors is None else pool.vectors.number_bytes

    def _scale(self, x: NDArray[np.float32], y: NDArray[np.float32], relative_eps: float) -> tuple[float, float]:
        """Return eps and the spread of a row's costs, both in mean costs."""
        s = self.settings
        scale = measure_scale(x[:2048], Target(y, np.full(len(y), 1.0 / len(y))), Cost(s.cost, s.normalize))
        mean = scale.mean or 1.0
        return scale.eps(relative_eps) / mean, max(scale.row_std, 1e-6 * mean) / mean

    def _tables(self, pool: Side, target: Side) -> Tables:
        sources = pool.texts.sources if pool.texts is not None else self.settings.pool_vectors[:1]
        own = [row.id or f"{sources[0]}:{row.number}" for row in pool.kept[:_TABLE_ROWS]]
        ids = own or [str(row) for row in range(_TABLE_ROWS)]
        nearest = [row.id or f"target:{row.number}" for row in target.kept] or ["0"]
        names = list(sources[: len(ids)]) if pool.kept else list(sources[:1]) * len(ids)
        return calibrate.tables(ids, names, nearest, self.watch)

    def _here(self, found: list[Side], problem: Problem, tables: Tables, losses: Encoding | None) -> Machine:
        """Measure this machine on vectors of the sample."""
        s, d, watch, threads = self.settings, problem.d, self.watch, self._threads
        pool, target = found[:2]
        readers = [side.vectors.pace for side in found if side.vectors is not None and _is_stored(side)]
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
            "token": next((side.encoding.rate for side in found if side.encoding is not None), 0.0),
            "loss": 0.0 if losses is None else losses.rate,
            "bring": min(readers, default=float("inf")),
            "parse": 1.0 / pool.texts.parse_seconds if pool.texts is not None else float("inf"),
        }
        if s.on_cluster and s.backend == "gpu":
            rates |= dict.fromkeys(_SWEEPS, 0.0)
            return machines.here(rates, threads, "a cluster with GPUs, of which nothing is known")
        return machines.here(rates, threads, f"this machine, {threads} threads, backend {backend.name}")


def _has_arrays(s: Settings) -> bool:
    """Tell whether each row has a weight or a capacity of its own."""
    rules = (s.tokens, *s.at_most, *s.exclude, *s.held_out)
    return any(getattr(s, name) is not None for name in POOL_WEIGHTS) or any(one is not None for one in rules)


def _passes(s: Settings, pool: Side) -> int:
    """Return how often more than else all documents of the pool are read, for fields of theirs or to be compared."""
    fields = [s.token_field, s.weight_field, *(one for one in s.at_most if not one.startswith(f"{FILE}="))]
    moments = s.features in SCALED and pool.embeds
    return sum(one is not None for one in fields) + bool(s.held_out) + moments


def _few_rows(pool: Side) -> float:
    """Return what a read for a few documents takes of one that parses all: lines of JSON are passed over."""
    sources = () if pool.texts is None else pool.texts.sources
    return float(np.mean([_PASSED_OVER if kind_of(one) == "jsonl" else 1.0 for one in sources])) if sources else 1.0


def _is_stored(side: Side) -> bool:
    return side.texts is not None or side.vectors is None or side.vectors.stored


def _input_bytes(side: Side) -> float:
    return (side.texts.bytes if side.texts else 0.0) + (side.vectors.bytes if side.vectors else 0.0)
