"""The cost model: what a run of given sizes does, and what that takes on a given machine. docs/scale.md is its text.

    n rows of the pool, m of the target, d dimensions, k to choose; e = 32, what an exponential costs in dimensions

    one look at s rows        2 s m (d + e) FLOP, and with a Gram m^2 for each row it keeps; at their plan 2 s m e
    one Newton step           2/3 m^3 FLOP, on one host
    embedding                 tokens, each the encoder's FLOP
    between machines          16 m bytes to each worker; back, for each span of rows, 8 m, with a Gram 8 m^2 more, and
                              for each row of the pool 4

`work` is free of machines: amounts of each kind, step by step. A `Machine` has a rate for each kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from gapsel.memory import LARGEST_PLAN, needed
from gapsel.plan.looks import full_looks, looks
from gapsel.potentials.ascent import gram_pays

if TYPE_CHECKING:
    from collections.abc import Mapping

# What is counted: FLOP of exact and rough looks, Grams, Newton steps; pairs (row, target) that taking turns compares;
# tokens of the encoder, and of a model that says losses; rows parsed; bytes hashed; numbers checked, and brought into
# the run folder; rows of Parquet tables written.
Kind = Literal["exact", "rough", "gram", "solve", "turns", "token", "loss", "parse", "hash", "check", "bring", "table"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What devices share, and what the cores of a host do together. The rest is one thread of each node.
ON_DEVICES: frozenset[Kind] = frozenset({"exact", "rough", "gram", "token", "loss"})
ON_ALL_CORES: frozenset[Kind] = ON_DEVICES | {"solve", "turns"}
STEPS = ("read", "embed", "fit", "score", "select", "report")
_FLOAT64, _COVERED = 8, 256
# Bytes of a row: of an output of a look, and of both ends of a box of its own.
_OUTPUT, _BOX = 4, 16
# Spans of a look, without a Gram and with one: so many at most, of so many rows at least.
_SPANS, _GRAM_SPANS = (256, 4096), (64, 16384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The sizes of a run.

    Of more than ``fit_rows`` rows the fit takes a part. ``eps`` and ``row_std`` are in mean costs. ``base`` are the
    rows of a base, ``avoided`` the examples to be avoided, whose own problem has ``avoided_eps``; ``tasks`` how many
    the target has, ``balanced`` by what each closes, ``robust`` where examples may be ignored; ``capped``: there are
    quotas. ``arrays``: each row has a weight, a capacity or a price of its own. ``stored``: the pool's vectors are in
    the run folder; ``lying`` rows of the other sides are not. ``tokens`` are those of all sides together, 0 where there
    are vectors already, ``loss_tokens`` those that a model says the losses of; ``brought`` the numbers of vectors that
    are converted into the run folder; ``passes`` are more reads of all of the pool's documents, for fields;
    ``few_rows`` is what a read for a few of them takes of one that parses all. ``number_bytes`` is what a number of the
    pool's vectors takes. The bytes of a row are means: in its own file, in the store's table, in the table of scores.
    """

    n: int
    m: int
    d: int
    k: int
    fit_rows: int
    mass: float = 0.5
    eps: float = 0.06
    row_std: float = 0.12
    base: int = 0
    avoided: int = 0
    avoided_eps: float = 0.06
    tasks: int = 1
    balanced: bool = False
    robust: bool = False
    capped: bool = False
    arrays: bool = False
    texts: bool = True
    embeds: bool = True
    stored: bool = True
    lying: int = 0
    labels: bool = False
    tokens: float = 0.0
    token_flop: float = 0.0
    loss_tokens: float = 0.0
    loss_flop: float = 0.0
    brought: float = 0.0
    passes: int = 0
    few_rows: float = 1.0
    number_bytes: int = 2
    input_bytes: float = 0.0
    rejected: float = 0.0
    row_bytes: float = 0.0
    table_bytes: float = 0.0
    score_bytes: float = 0.0

    @property
    def swept(self) -> int:
        """The rows that the solver knows of: the pool's and the base's."""
        return self.n + self.base

    @property
    def vector_bytes(self) -> float:
        """The bytes of the vectors that are swept."""
        return float(self.swept) * self.d * self.number_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What works: ``rates``, the amount of each kind a second, of one device or of one node's host, 0 where unknown.

    ``stated`` are the kinds whose rate is an assumption and not a measurement.

    ``devices`` in all, ``nodes``, ``threads`` of a node. A pool that does not fit in ``device_memory`` of all devices
    is streamed at ``stream`` bytes a second into each device; one that does not fit in ``host_memory`` of all nodes,
    at ``disk`` bytes a second of each node. ``network``: bytes a second of a node; 0 for a machine by itself.
    """

    name: str
    rates: Mapping[Kind, float]
    stated: frozenset[Kind] = frozenset()
    devices: int = 1
    nodes: int = 1
    threads: int = 1
    device_memory: float = float("inf")
    host_memory: float = float("inf")
    stream: float = float("inf")
    disk: float = float("inf")
    network: float = 0.0

    def parallel(self, kind: Kind) -> int:
        """Return how many work on this kind at once."""
        return self.devices if kind in ON_DEVICES else 1 if kind in ("solve", "turns") else self.nodes


@dataclass(frozen=True, slots=True)
class Disk:
    """The bytes of a run folder, part by part."""

    vectors: float
    tables: float
    scores: float
    selected: float
    rejected: float
    rest: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.vectors + self.tables + self.scores + self.selected + self.rejected + self.rest


def work(p: Problem) -> dict[str, dict[Kind, float]]:
    """Return how much of each kind each step does."""
    found: dict[str, dict[Kind, float]] = {step: dict.fromkeys(KINDS, 0.0) for step in STEPS}
    for one in looks(p):
        of_step = found[one.step]
        exact, rough = one.sweep_flop(p.m, p.d)
        of_step["exact"] += exact
        of_step["rough"] += rough
        of_step["gram"] += one.gram_flop(p.m, p.d)
        of_step["solve"] += one.solve_flop(p.m)
    for step, kind, amount in _bookkeeping(p):
        found[step][kind] += amount
    return found


def _bookkeeping(p: Problem) -> list[tuple[str, Kind, float]]:
    """Return what is not computed but read, checked and written: (step, kind, amount)."""
    numbers = float(p.swept) * p.d
    made: list[tuple[str, Kind, float]] = [
        ("score", "table", p.n),
        # Round-robin neighbours look at all targets, coverage at some.
        ("report", "turns", float(p.n) * (p.m + min(p.m, _COVERED))),
        ("fit" if p.stored else "read", "check", numbers if p.texts else 2 * numbers),
        # Hashed for the fingerprint of the input; texts once more for that of the vectors.
        ("read", "hash", p.input_bytes * (2 if p.texts else 1)),
        # Checked before anything is written, and read again.
        *((step, "bring", p.brought) for step in ("read", "embed")),
    ]
    if p.texts:
        # Looked at, embedded, written back where chosen, and read for the examples of the report and its labels.
        passes = {"read": 1.0, "embed": 1.0, "select": p.few_rows, "report": 2 * p.few_rows + p.labels}
        made += [(step, "parse", p.n * times) for step, times in passes.items()]
        made += [("fit", "parse", float(p.n) * p.passes), ("embed", "parse", float(p.base))]
        made += [("embed", "token", p.tokens), ("embed", "table", p.swept)]
    if p.loss_tokens:
        made += [("fit", "loss", p.loss_tokens), ("fit", "parse", p.n), ("fit", "table", p.n)]
    return made


def seconds(p: Problem, machine: Machine) -> dict[str, float]:
    """Return the seconds that each step takes where the machine has nothing else to do."""
    streamed = stream_seconds(p, machine)
    found = {}
    for step, amounts in work(p).items():
        shared = sum(_seconds(kind, amounts, machine) for kind in ("exact", "rough", "gram"))
        rest = sum(_seconds(kind, amounts, machine) for kind in KINDS if kind not in ("exact", "rough", "gram"))
        # Reading hides behind computing, or computing behind reading.
        found[step] = max(shared, streamed.get(step, 0.0)) + rest
    for step, more in network_seconds(p, machine).items():
        found[step] += more
    return found


def processor_seconds(p: Problem, machine: Machine) -> dict[str, float]:
    """Return the seconds of processor time that each step takes of a single CPU machine, over all of its threads."""
    return {
        step: sum(_seconds(kind, amounts, machine) * (machine.threads if kind in ON_ALL_CORES else 1) for kind in KINDS)
        for step, amounts in work(p).items()
    }


def stream_seconds(p: Problem, machine: Machine) -> dict[str, float]:
    """Return what it takes to bring the pool's vectors to what sweeps them, for all looks of each step."""
    size = p.vector_bytes
    if size <= machine.devices * machine.device_memory:
        return {}
    rate = machine.devices * machine.stream
    if size > machine.nodes * machine.host_memory:
        rate = min(rate, machine.nodes * machine.disk)
    return {step: count * size / rate for step, count in full_looks(p).items()}


def spans(n: int, *, gram: bool) -> int:
    """Return into about how many spans a look at n rows is cut, whoever sweeps them (rust/sizes.rs)."""
    most, least = _GRAM_SPANS if gram else _SPANS
    return -(-n // max(-(-n // most), least))


def network_bytes(n: int, m: int, workers: int, *, gram: bool) -> float:
    """Return what a look at n rows is merged of: g and b to each worker, q of each span back, maybe a Gram."""
    back = spans(n, gram=gram) * (m + (float(m) ** 2 + m if gram else 0.0))
    return _FLOAT64 * (2.0 * workers * m + back)


def row_bytes(p: Problem, step: str) -> float:
    """Return what crosses the network for the rows of a look at the whole pool.

    That is an f, a distance or the nearest target of each back, and to the workers, for the certificate, its box.
    """
    return float(p.n) * (_OUTPUT + (_BOX if step == "select" else 0))


def network_seconds(p: Problem, machine: Machine) -> dict[str, float]:
    """Return what the merging of each step's looks takes, all through the network of one node."""
    if not machine.network:
        return {}
    found = dict.fromkeys(STEPS, 0.0)
    plain, gram = (network_bytes(p.n, p.m, machine.nodes, gram=gram) for gram in (False, True))
    for one in looks(p):
        if one.rows >= p.n:
            merged = plain * (one.count - one.grams) + gram * one.grams
            found[one.step] += (merged + row_bytes(p, one.step) * one.count) / machine.network
    return found


def _seconds(kind: Kind, amounts: Mapping[Kind, float], machine: Machine) -> float:
    if not amounts[kind]:
        return 0.0
    # A pace that is not known makes the time unknown.
    return amounts[kind] / (machine.rates[kind] * machine.parallel(kind)) if machine.rates[kind] else float("nan")


# Bytes: of a chosen row what is added to it and said of it in selection.json; of one rejected; of page and record.
_ADDED, _SAID, _REJECTED, _PAGES = 96, 75, 260, 120_000
# Of a row without a text; of its loss and the weight by it; of its price in the table of scores.
_BARE_ROW, _LOSS, _PRICE = 40, 12, 4


def disk(p: Problem) -> Disk:
    """Return what a run folder takes; ready-made vectors stay where they are."""
    own = p.row_bytes if p.texts else _BARE_ROW
    rows = p.swept + p.m + p.avoided - p.lying
    losses = p.n * (_LOSS + p.table_bytes) if p.loss_tokens else 0.0
    return Disk(
        vectors=float(rows) * p.d * p.number_bytes if p.stored else 0.0,
        tables=(rows * p.table_bytes if p.stored else 0.0) + losses,
        scores=p.n * (p.score_bytes + (_PRICE if p.avoided else 0.0)),
        selected=p.k * (own + _ADDED + _SAID),
        rejected=p.rejected * _REJECTED,
        rest=(p.m + p.avoided) * (4.0 * p.d + 2 * _FLOAT64) + _PAGES,
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a run holds at its peak, beyond mapped files: the program with its encoder, rows, work space."""

    program: float
    rows: float
    space: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.program + self.rows + self.space


# Bytes of work space whatever the pool; matrices m x m in float64 at once; the round-robin lists and a tile of its
# products, in numbers of 8 bytes; the bytes of a row of a part, beside its vector.
_SPACE, _MATRICES, _PART_ROW = 60e6, 4, 40
# Bytes of a row that has a weight, a capacity or a price of its own: two arrays, and the two of the box made of them.
_ARRAYS = 32
# Vectors that are brought into the run folder: blocks read, parsed and written at a time.
_BLOCKS = 140e6
_LISTS, _TILE = 1 << 23, 1 << 22


def memory(p: Problem, program: float) -> Memory:
    """Return what a run holds; ``program`` is what it holds before it has a pool."""
    matrices = _MATRICES * _FLOAT64 * float(p.m) ** 2 if gram_pays(p.m, p.d, p.n) else 0.0
    parts = max((one.rows for one in looks(p) if one.rows < p.n), default=0.0)
    arrays = _ARRAYS * p.swept if p.arrays or p.base or p.avoided else 0
    lists = _FLOAT64 * (min(_LISTS, 4.0 * p.m * (4 * p.k / p.m + 64)) + 3 * min(_TILE, 4096.0 * p.m))
    fit = matrices + parts * (p.d * p.number_bytes + _PART_ROW) + min(float(p.swept) * p.m, LARGEST_PLAN)
    rows = needed(p.swept, p.m, p.d) - needed(0, p.m, p.d) + arrays
    space = _SPACE + 4.0 * p.m * p.d + max(fit, lists)
    return Memory(program, float(rows), max(space, _BLOCKS if p.brought else 0.0))
