"""One span of a sweep on one device: consecutive rows of the pool, in chunks, to sums that others can be added to.

The cut into spans follows from the number of rows alone, so that who sweeps which, or how many there are to do it,
changes no sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.checks import refuse_row
from gapsel.backends.gpu import fused
from gapsel.backends.gpu.gram import Gram, matrix_bytes, thinning
from gapsel.backends.gpu.operands import Piece, empty_piece
from gapsel.backends.gpu.strip import SEGMENT_ROWS, Stats, Strip, chunk_bytes, chunk_rows
from gapsel.backends.gpu.target import columns
from gapsel.backends.parts import Part
from gapsel.records import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gapsel.backends.gpu.device import Array, Device, TopK
    from gapsel.backends.gpu.job import Job
    from gapsel.backends.gpu.operands import Preparation
    from gapsel.backends.gpu.strip import Bounds
    from gapsel.backends.gpu.target import Columns

# Rows of a span at least; and spans of a pool at most.
SPAN_ROWS, SPANS = 1 << 20, 256
# A span's Gram is added up on the host: a journey of m^2 numbers, which so many columns' products of SPAN_ROWS rows pay
# for. (By the rates of an H200 and of the bus before it; not measured.)
_GRAM_COLUMNS = 512
# Rows whose bounds and outputs are on the device at a time.
WINDOW_ROWS = 1 << 22
_ROW_BLOCK = 256
_SETTINGS = (
    "scale", "constant", "of_square", "shift", "hard_shift", "unit", "eps", "lo", "hi", "price", "eta", "n", "least",
    "root", "limit",
)  # fmt: skip


def span_rows(n: int, columns: int = 0) -> int:
    """Return how many rows each span of a pool of n rows has, but for a shorter last one; ``columns`` of a Gram."""
    of_any = SPAN_ROWS * -(-n // (SPAN_ROWS * SPANS))
    return min(n, of_any * max(1, -(-columns // _GRAM_COLUMNS)))


def spans(rows: range, size: int) -> list[range]:
    """Cut rows into spans of that size."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def dealt(of_all: Sequence[range], devices: int) -> list[Sequence[range]]:
    """Deal the spans out to at most so many devices, to each those that follow one another."""
    each = -(-len(of_all) // devices)
    return [of_all[at : at + each] for at in range(0, len(of_all), each)]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows of a span are multiplied at a time, whole segments, and by whom: None is the portable stage."""

    rows: int
    launch: fused.Launch | None

    @classmethod
    def of(cls, job: Job, preparation: Preparation) -> Pace:
        """Choose by what memory there is."""
        ld, free = preparation.y.ld, preparation.device.free_memory()
        launch = fused.Launch.of(job, preparation)
        if launch is not None:
            return cls(launch.chunk_rows(job.span, job.form.row_bytes, free), launch)
        budget = free - (matrix_bytes(ld) if job.query.gram else 0)
        return cls(chunk_rows(job.span, ld, job.form.row_bytes, budget // 2), None)

    def at_most(self, rows: int) -> Pace:
        """Return the same with no more rows at a time than these, whole segments."""
        return Pace(min(self.rows, rows), self.launch)


def least_bytes(job: Job, preparation: Preparation) -> int:
    """Return about how many bytes a sweep takes beside its pool, at least."""
    ld, row_bytes = preparation.y.ld, job.form.row_bytes
    outputs = 28 * min(job.span, WINDOW_ROWS)
    return 2 * chunk_bytes(SEGMENT_ROWS, ld, row_bytes) + outputs + (matrix_bytes(ld) if job.query.gram else 0)


class Span:
    """A span on one device, at a pace."""

    def __init__(self, job: Job, rows: range, preparation: Preparation, pace: Pace) -> None:
        self._device, self._y = device, y = preparation.device, preparation.y
        self._job, self._rows, self._preparation, chunk = job, rows, preparation, pace.rows
        self._chunk = chunk
        self._box = job.query.box.at(job.at(rows))
        added = columns(device, y, job)
        self._thinning = thinning(job.n, len(job.keep), job.pool.d, self._box, job.query.eps)
        self._settings = device.upload(self._settings_of(added.settings))
        self._stage = self._stage_of(pace, added)
        self._stats = Stats.room(device, chunk, nearest=job.wants("nearest"))
        self._mass = device.empty(chunk, np.float32)
        self._gram = Gram(device, y.ld, chunk) if job.query.gram else None
        self._q = device.zeros(y.ld, np.float64)
        self._sums = device.zeros((-(-len(rows) // _ROW_BLOCK), 3), np.float64)
        self._edge = empty_piece(device, job.form, chunk)
        self._top = device.top(job.query.k) if job.query.k else None
        self._window = self._window_at(rows.start)

    def run(self, held: Piece | None) -> Part:
        """Sweep the rows, which lie on the device already if ``held``. Raises DataError at the first bad row."""
        pool, edge = self._job.pool, self._edge
        pieces = [held] if held is not None else self._preparation.pieces(pool, self._rows, self._chunk)
        row = self._rows.start
        for piece, rows in chunks(pieces, self._chunk, edge, self._device):
            if row == self._window.rows.stop:
                self._window.flush(self._top)
                self._window = self._window_at(row)
            self._sweep(piece, rows, row)
            row += rows
        self._window.flush(self._top)
        bad = self._preparation.bad.found()
        if bad is not None:
            refuse_row("pool", bad, pool.row(bad))
        return self._result()

    def _settings_of(self, settings: Mapping[str, float]) -> NDArray[np.float64]:
        box = self._box
        values = {**settings, **self._thinning, **box.of_all, "eta": box.eta, "n": float(self._job.n)}
        return np.array([values[name] for name in _SETTINGS], np.float64)

    def _stage_of(self, pace: Pace, added: Columns) -> Strip | fused.Fused:
        if pace.launch is not None:
            return fused.Fused(self._job, self._box, self._preparation, added, pace.launch)
        return Strip(self._preparation, added, self._settings, pace.rows, rough=self._job.query.rough)

    def _window_at(self, row: int) -> Window:
        at, rows = row - self._rows.start, max(1, WINDOW_ROWS // self._chunk) * self._chunk
        return Window(self._job, self._device, self._rows[at : at + rows])

    def _sweep(self, piece: Piece, rows: int, row: int) -> None:
        stats, bounds = self._stats, self._window.bounds(row, rows)
        if isinstance(self._stage, fused.Fused):
            self._stage.reduce(piece, rows, bounds, stats)
            self._finish_rows(piece, rows, row, bounds)
            return
        self._stage.multiply(piece)
        done = self._stage.reduce(piece, rows, bounds, stats, self._q)
        self._finish_rows(piece, rows, row, bounds)
        if not done:
            self._stage.add_columns(piece, rows, stats.top, self._mass, self._q)
        if self._gram is not None:
            self._gram.add(self._stage, piece, rows, stats)

    def _finish_rows(self, piece: Piece, rows: int, row: int, bounds: Bounds) -> None:
        stats, gram, block = self._stats, self._gram, (row - self._rows.start) // _ROW_BLOCK
        self._device.launch(
            "rows", -(-rows // _ROW_BLOCK), _ROW_BLOCK,
            rows, row, piece.squared, self._settings, *bounds,
            stats.top, stats.total, stats.moment, stats.peak, stats.column, self._y.keep_there,
            *self._window.outputs(row, rows), self._mass,
            None if gram is None else gram.surplus, None if gram is None else gram.root,
            self._sums[block:], self._preparation.bad.status,
        )  # fmt: skip

    def _result(self) -> Part:
        download, keep = self._device.download, self._job.keep
        m, count = len(self._job.query.target.b), len(keep)
        gram = top = None
        if self._gram is not None:
            kept, lacking = self._gram.finish(self._thinning["root"], self._job.n, count)
            gram = _spread_square(kept, keep, m), _spread(lacking, keep, m)
        if self._top is not None:
            rows, values = self._top.finish()
            top = download(rows), download(values)
        q = self._stage.sums() if isinstance(self._stage, fused.Fused) else download(self._q)[:count]
        value, hard, entropy = download(self._sums).sum(axis=0).tolist()
        return Part(_spread(q, keep, m) / self._job.n, value, hard, entropy, gram, top)


def _spread(values: NDArray[np.float64], keep: NDArray[np.intp], m: int) -> NDArray[np.float64]:
    """Return an (m,) array that has the values at ``keep`` and zeros elsewhere."""
    out = np.zeros(m)
    out[keep] = values
    return out


def _spread_square(values: NDArray[np.float64], keep: NDArray[np.intp], m: int) -> NDArray[np.float64]:
    """Return an (m, m) array that has the values at ``keep`` in rows and columns, and zeros elsewhere."""
    if len(keep) == m:
        return np.ascontiguousarray(values)
    out = np.zeros((m, m))
    out[np.ix_(keep, keep)] = values
    return out


class Window:
    """Some rows' bounds, where there is an array of them, and their outputs, on the device."""

    def __init__(self, job: Job, device: Device, rows: range) -> None:
        self.rows, self._job, self._device = rows, job, device
        box = job.query.box
        self._bounds = [self._uploaded(bound) for bound in (box.lo, box.hi, box.price)]
        self._outputs = {
            name: device.empty(len(rows), kind) if job.wants(name) else None for name, kind in OUTPUTS.items()
        }

    def bounds(self, row: int, rows: int) -> Bounds:
        """Return lo, hi and price of these rows, None where one number does for all."""
        lo, hi, price = (None if bound is None else bound[self._at(row, rows)] for bound in self._bounds)
        return lo, hi, price

    def outputs(self, row: int, rows: int) -> list[Array | None]:
        """Return where f, hard and nearest of these rows go."""
        return [None if out is None else out[self._at(row, rows)] for out in self._outputs.values()]

    def flush(self, top: TopK | None) -> None:
        """Take the outputs to the host, and offer f to the k lowest."""
        if top is not None:
            top.push(self._outputs["f"], self.rows.start)
        for name, out in self._job.query.outputs.items():
            out[self._job.at(self.rows)] = self._device.download(self._outputs[name])

    def _at(self, row: int, rows: int) -> slice:
        return slice(row - self.rows.start, row - self.rows.start + rows)

    def _uploaded(self, bound: float | NDArray[np.floating]) -> Array | None:
        if np.ndim(bound) == 0:
            return None
        return self._device.upload(np.ascontiguousarray(np.asarray(bound)[self._job.at(self.rows)], np.float64))


def chunks(pieces: Iterable[Piece], rows: int, edge: Piece, device: Device) -> Iterator[tuple[Piece, int]]:
    """Cut pieces into chunks of ``rows`` rows, and say how many of them count: all but in the last one.

    Chunks across pieces, and the last one, are put together in ``edge``, so that all products are of one shape: equal
    rows then give equal results wherever they stand.
    """
    filled = 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            if filled == 0 and len(piece) - at >= rows:
                yield piece[at : at + rows], rows
                at += rows
                continue
            take = min(rows - filled, len(piece) - at)
            _copy(device, piece[at : at + take], edge[filled : filled + take])
            at, filled = at + take, filled + take
            if filled == rows:
                yield edge, rows
                filled = 0
    if filled:
        device.zero(edge.x[filled:])
        yield edge, filled


def _copy(device: Device, source: Piece, target: Piece) -> None:
    device.copy(source.x, target.x)
    device.copy(source.factor, target.factor)
    if source.squared is not None:
        device.copy(source.squared, target.squared)
