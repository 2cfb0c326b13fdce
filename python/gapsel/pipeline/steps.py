"""The doors after the vectors: fit, score, select, report. Each takes the run folder as the step before left it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import backends, corpus, model, report, selection, store
from gapsel.config import Settings, rows_for
from gapsel.cost import measure_scale
from gapsel.errors import DataError
from gapsel.files import whole, write_json
from gapsel.findings import Certificate
from gapsel.pipeline.evidence import gather_findings
from gapsel.pipeline.folder import RunFolder, sign
from gapsel.pipeline.vectors import check_inputs, has_texts, input_fingerprints, open_side, write_sides
from gapsel.potentials import Rows, Task, solve
from gapsel.progress import track
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.findings import Findings
    from gapsel.selection import Selection
    from gapsel.store import Store

MODEL = "model.safetensors"
SCALE_ROWS = 2048


@dataclass
class Run:
    """One run at work: its folder, its settings, and what its steps share."""

    folder: RunFolder
    quiet: bool = False

    @property
    def settings(self) -> Settings:
        """The settings of this run."""
        return self.folder.settings

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @cached_property
    def backend(self) -> Backend:
        """What sweeps the pool."""
        return backends.choose(self.settings.backend, self.settings.threads)

    @cached_property
    def pool(self) -> Store:
        """The pool's vectors, checked."""
        return self._side("pool")

    @cached_property
    def target_store(self) -> Store:
        """The target's vectors, checked."""
        return self._side("target")

    @cached_property
    def model(self) -> model.Model:
        """The fitted model."""
        return model.load(self.path / MODEL)

    @cached_property
    def f(self) -> NDArray[np.float32]:
        """The potential of every row of the pool (n,), from the scores."""
        files = sorted((self.path / "scores").glob("*.parquet"))
        columns = [pq.read_table(file, columns=["potential"]).column(0).to_numpy() for file in files]
        return np.concatenate(columns).astype(np.float32)

    @property
    def k(self) -> int:
        """How many documents are to be chosen."""
        return rows_for(self.settings.k, self.pool.n)

    @cached_property
    def rows(self) -> Rows:
        """The pool's rows with their weights."""
        a = _weights(self.settings.pool_weights, self.pool.n, "pool")
        return Rows.whole(self.pool.shards, self.k, a)

    def task(self, target: Target, cost: Cost) -> Task:
        """Return the problem that these settings pose."""
        s = self.settings
        sample = self.rows.sample(min(SCALE_ROWS, self.rows.n), np.random.default_rng(s.seed)).shards[0]
        scale = measure_scale(sample, target, cost)
        return Task(self.rows, target, cost, scale, scale.eps(s.relative_eps), s.mass, s.tolerance, s.max_sweeps, s.seed)

    def _side(self, side: str) -> Store:
        opened = open_side(self.settings, self.path, side)
        store.check(opened.shards, name=side, normalize=self.settings.normalize or self.settings.cost == "cosine")
        return opened


def signatures(settings: Settings, inputs: dict[str, str]) -> dict[str, str]:
    """Return the signature of every step under these settings and inputs."""
    embed = sign(settings.of("embed"), inputs)
    fitting = settings.of("fit")
    if settings.mass == 0:
        del fitting["k"]
    fit = sign(embed, fitting)
    select = sign(fit, settings.k)
    return {"embed": embed, "fit": fit, "score": fit, "select": select, "report": sign(select, settings.label_field)}


def advance_to(run: Run, last: str) -> None:
    """Do the steps up to and including ``last``, but for those that are done."""
    check_inputs(run.settings)
    signature = signatures(run.settings, input_fingerprints(run.settings))
    for name, door in DOORS.items():
        if not run.folder.is_done(name, signature[name]):
            with run.folder.step(name, signature[name]) as facts:
                facts.update(door(run))
        if name == last:
            return


def embed_step(run: Run) -> dict[str, Any]:
    """Texts to vectors."""
    return write_sides(run.settings, run.path, quiet=run.quiet)


def fit_step(run: Run) -> dict[str, Any]:
    """Vectors to potentials, saved as the model."""
    target = _target(run)
    if target.y.shape[1] != run.pool.d:
        msg = (
            f"the pool's vectors have {run.pool.d} dimensions, the target's {target.y.shape[1]}: "
            "embed both with the same model"
        )
        raise DataError(msg)
    _same_embedder(run)
    task = run.task(target, Cost(run.settings.cost, run.settings.normalize))
    with track("fit", None, "sweeps", enabled=not run.quiet) as advance:
        solution = solve(task, run.backend, watch=lambda _stage: advance(1))
    calibration = model.Calibration.of(solution.f, run.rows.a)
    embedder = run.target_store.fingerprint.get("embedder", {})
    fitted = model.Model(solution.potentials, calibration, embedder if isinstance(embedder, dict) else {})
    fitted.save(run.path / MODEL)
    run.__dict__.pop("model", None)
    return {"eps": task.eps, "scale": asdict(task.scale), **asdict(solution.potentials.evidence)}


def score_step(run: Run) -> dict[str, Any]:
    """Potentials to scores of every row of the pool, one Parquet file for each shard of vectors, in the pool's order."""
    p = run.model.potentials
    f = run.model.f(run.pool.shards, run.backend)
    nearest = selection.nearest_targets(run.pool.shards, p, run.backend)
    values = selection.scores(f, run.rows.a)
    ids = pa.array(run.target_store.ids(np.arange(run.target_store.n)))
    folder = run.path / "scores"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for at, (first, last) in enumerate(zip(run.pool.starts[:-1], run.pool.starts[1:], strict=True)):
        table = run.pool.table(at).drop_columns(["text_hash"])
        table = table.append_column("score", pa.array(values[first:last]))
        table = table.append_column("potential", pa.array(f[first:last]))
        table = table.append_column("nearest", ids.take(pa.array(nearest[first:last])))
        with whole(folder / f"{at:05d}.parquet") as file:
            pq.write_table(table, file)
    run.__dict__.pop("f", None)
    return {"rows": int(run.pool.n), "mean": float(values.mean()), "lowest": float(values.min())}


def select_step(run: Run) -> dict[str, Any]:
    """Scores to the selection, written in the user's own format, with its certificate."""
    p = run.model.potentials
    chosen = selection.select(run.f, run.k, run.rows, p, run.backend)
    certificate = selection.certify(run.f, chosen.rows, run.task(p.target, p.cost), p, run.backend)
    for old in run.path.glob("selected.*"):
        old.unlink()
    written = _write_selected(run, chosen)
    about = {"k": run.k, "mass": run.settings.mass, "cut": float(chosen.scores[-1]), "certificate": asdict(certificate)}
    rows = {name: getattr(chosen, name).tolist() for name in ("rows", "scores", "nearest")}
    write_json(run.path / "selection.json", {**about, **rows})
    return {**about, "file": written.name}


def report_step(run: Run) -> dict[str, Any]:
    """What was found, as findings.json and report.html."""
    chosen, certificate = read_selection(run)
    findings = gather_findings(run, chosen, certificate)
    write_json(run.path / "findings.json", findings.to_json())
    report.write(findings, run.path / "report.html")
    return {"methods": {one.name: {"mixture": asdict(one.mixture), "alone": asdict(one.alone)} for one in findings.methods}}


DOORS = {"embed": embed_step, "fit": fit_step, "score": score_step, "select": select_step, "report": report_step}


def read_selection(run: Run) -> tuple[Selection, Certificate]:
    """Read what select_step wrote."""
    saved = json.loads((run.path / "selection.json").read_text())
    chosen = selection.Selection(
        np.array(saved["rows"], np.int64), np.array(saved["scores"]), np.array(saved["nearest"], np.int32)
    )
    return chosen, Certificate(**saved["certificate"])


def _write_selected(run: Run, chosen: Selection) -> Path:
    nearest = run.target_store.ids(chosen.nearest)
    rank = np.arange(1, len(chosen.rows) + 1)
    settings = run.settings
    if not has_texts(settings, "pool"):
        picked = corpus.Chosen(chosen.rows, chosen.scores, rank, nearest)
        return corpus.write_selected_vectors(run.path, run.pool.ids(chosen.rows), picked)
    within = run.pool.row_numbers(chosen.rows)
    picked = corpus.Chosen(within, chosen.scores, rank, nearest, run.pool.text_hashes(chosen.rows))
    by_source = corpus.by_source(run.pool.sources(chosen.rows), picked)
    return corpus.write_selected(
        settings.pool, run.path, by_source, text_field=settings.text_field, id_field=settings.id_field
    )


def _target(run: Run) -> Target:
    shards = run.target_store.shards
    y = np.ascontiguousarray(np.concatenate([np.asarray(shard, np.float32) for shard in shards]))
    b = _weights(run.settings.target_weights, len(y), "target")
    return Target(y, np.full(len(y), 1.0 / len(y)) if b is None else b / b.sum())


def _weights(path: str | None, count: int, side: str) -> NDArray[np.float64] | None:
    if path is None:
        return None
    try:
        weights = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path}: the {side}'s weights cannot be read ({error}): give a .npy file of {count} numbers"
        raise DataError(msg) from error
    return check_weights(weights, count, f"{path}: the {side}'s weights")


def check_weights(weights: NDArray[Any], count: int, name: str) -> NDArray[np.float64]:
    """Return weights (count,) as float64. Raises DataError for another shape, negative or non-finite ones, or sum 0."""
    if weights.shape != (count,) or weights.dtype.kind not in "fiu":
        msg = f"{name} are {weights.dtype} of shape {weights.shape}: give {count} numbers"
        raise DataError(msg)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        msg = f"{name}: row {bad[0]} is {weights[bad[0]]}: weights are finite and not negative"
        raise DataError(msg)
    if not weights.sum() > 0:
        msg = f"{name} are all 0: give at least one row some weight"
        raise DataError(msg)
    return weights.astype(np.float64)


def _same_embedder(run: Run) -> None:
    made = [one.fingerprint.get("embedder") for one in (run.pool, run.target_store)]
    hashes = [one.get("hash") if isinstance(one, dict) else None for one in made]
    if None not in hashes and hashes[0] != hashes[1]:
        msg = "pool and target were embedded differently: embed both with the same model and settings"
        raise DataError(msg)

