"""The doors after the vectors: fit, score, select, report. Each takes the run folder as the step before left it."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapsel import backends, corpus, model, report, selection
from gapsel.config import STEPS, Settings, rows_for
from gapsel.cost import measure_scale
from gapsel.errors import DataError
from gapsel.files import whole, write_json
from gapsel.findings import Certificate
from gapsel.pipeline.evidence import check_labels, gather_findings
from gapsel.pipeline.folder import RunFolder, plain, read_json, sign
from gapsel.pipeline.vectors import (
    SIDES,
    check_inputs,
    has_texts,
    input_fingerprints,
    load_encoder,
    look_at,
    open_side,
    write_side,
)
from gapsel.potentials import Rows, Task, solve
from gapsel.progress import track
from gapsel.records import Cost, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.selection import Selection
    from gapsel.store import Store

MODEL = "model.safetensors"
SCORES = "scores"
SELECTION = "selection.json"
FINDINGS = "findings.json"
REPORT = "report.html"
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
        return open_side(self.settings, self.path, "pool")

    @cached_property
    def target_store(self) -> Store:
        """The target's vectors, checked."""
        return open_side(self.settings, self.path, "target")

    @cached_property
    def model(self) -> model.Model:
        """The fitted model."""
        return model.load(self.path / MODEL)

    @cached_property
    def f(self) -> NDArray[np.float32]:
        """The potential of every row of the pool (n,), from the scores."""
        files = [self.path / file for file in self.folder.facts("score")["files"]]
        try:
            columns = [pq.read_table(file, columns=["potential"]).column(0).to_numpy() for file in files]
        except (OSError, pa.ArrowException) as error:
            msg = f"{self.path / SCORES}: cannot be read ({error}): delete the folder, and give the same command again"
            raise DataError(msg) from error
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
        return Task(
            self.rows, target, cost, scale, scale.eps(s.relative_eps), s.mass, s.tolerance, s.max_sweeps, s.seed
        )

    def say(self, text: str) -> None:
        """Tell on stderr which step is at work."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def forget(self, *names: str) -> None:
        """Let go of what was read, since a step has written it anew."""
        for name in names:
            self.__dict__.pop(name, None)


def signatures(settings: Settings, inputs: dict[str, str]) -> dict[str, str]:
    """Return the signature of every step under these settings and inputs."""
    embed = sign(settings.of("embed"), inputs)
    fitting = settings.of("fit")
    if settings.mass == 0:
        del fitting["k"]
    fit = sign(embed, fitting, [_content(settings.pool_weights), _content(settings.target_weights)])
    select = sign(fit, settings.k)
    return {"embed": embed, "fit": fit, "score": fit, "select": select, "report": sign(select, settings.label_field)}


def advance_to(run: Run, last: str) -> None:
    """Do the steps up to and including ``last``, but for those that are done."""
    signature = signatures(run.settings, _check_inputs(run))
    for name in STEPS[: STEPS.index(last) + 1]:
        if run.folder.is_done(name, signature[name]):
            run.say(f"{name}: done before")
            continue
        run.say(f"{name} ...")
        began = time.perf_counter()
        facts = DOORS[name](run)
        run.folder.finish(name, signature[name], time.perf_counter() - began, facts)


def _check_inputs(run: Run) -> dict[str, str]:
    """Return the inputs' fingerprints; refuse what is missing or no longer what the run began with."""
    check_inputs(run.settings, run.path)
    try:
        inputs = input_fingerprints(run.settings)
    except DataError as error:
        if "inputs" not in run.folder.record:
            raise
        msg = f"{error}; the run in {run.path} was made of it, and reads it again"
        raise DataError(msg) from error
    run.folder.check_inputs(inputs)
    run.folder.record["inputs"] = inputs
    return inputs


def embed_step(run: Run) -> dict[str, Any]:
    """Texts to vectors. Whatever can be known to be wrong is said before the long work begins."""
    sides = [look_at(run.settings, side) for side in SIDES]
    pool, target = sides
    rows_for(run.settings.k, pool.rows)
    _weights(run.settings.pool_weights, pool.rows, "pool")
    _weights(run.settings.target_weights, target.rows, "target")
    check_labels(run.settings)
    encoder = load_encoder(run.settings, sides)
    _check_d(pool.d, target.d)
    run.folder.writes("embed")
    found = {side.name: write_side(run.settings, run.path, side, encoder, quiet=run.quiet) for side in sides}
    run.forget("pool", "target_store", "rows")
    files = [file for _, written in found.values() for file in written]
    return {**{name: facts for name, (facts, _) in found.items()}, "files": files}


def fit_step(run: Run) -> dict[str, Any]:
    """Vectors to potentials, saved as the model."""
    target = _target(run)
    _check_d(run.pool.d, run.target_store.d)
    _same_embedder(run)
    task = run.task(target, Cost(run.settings.cost, run.settings.normalize))
    with track("fit", None, "sweeps", enabled=not run.quiet) as advance:
        solution = solve(task, run.backend, watch=lambda _stage: advance(1))
    calibration = model.Calibration.of(solution.f, run.rows.a)
    embedder = run.target_store.fingerprint.get("embedder", {})
    fitted = model.Model(solution.potentials, calibration, embedder if isinstance(embedder, dict) else {})
    run.folder.writes("fit")
    fitted.save(run.path / MODEL)
    run.forget("model")
    return {"eps": task.eps, "scale": asdict(task.scale), **asdict(solution.potentials.evidence), "files": [MODEL]}


def score_step(run: Run) -> dict[str, Any]:
    """Potentials to scores of every row of the pool, one Parquet file for each shard of vectors."""
    f = run.model.f(run.pool.shards, run.backend)
    nearest = selection.nearest_targets(run.pool.shards, run.model.potentials, run.backend)
    values = selection.scores(f, run.rows.a)
    run.folder.writes("score")
    for old in (run.path / SCORES).glob("*.parquet"):
        old.unlink()
    files = [_write_scores(run, at, values, f, nearest) for at in range(len(run.pool.shards))]
    run.forget("f")
    return {"rows": run.pool.n, "mean": float(values.mean()), "lowest": float(values.min()), "files": files}


def _write_scores(
    run: Run, at: int, values: NDArray[np.float64], f: NDArray[np.float32], nearest: NDArray[np.int32]
) -> str:
    """Write the scores of one shard of the pool and return the file's name in the run folder."""
    part = slice(*map(int, run.pool.starts[at : at + 2]))
    columns = {"score": values[part], "potential": f[part], "nearest": run.target_store.ids(nearest[part])}
    table = run.pool.table(at).drop_columns(["text_hash"])
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    file = f"{SCORES}/{at:05d}.parquet"
    with whole(run.path / file) as stream:
        pq.write_table(table, stream)
    return file


def select_step(run: Run) -> dict[str, Any]:
    """Scores to the selection, written in the user's own format, with its certificate."""
    p = run.model.potentials
    chosen = selection.select(run.f, run.k, run.rows, p, run.backend)
    certificate = selection.certify(run.f, chosen.rows, run.task(p.target, p.cost), p, run.backend)
    run.folder.writes("select")
    written = _write_selected(run, chosen)
    for old in set(run.path.glob("selected.*")) - {written}:
        old.unlink()
    about = {"k": run.k, "mass": run.settings.mass, "cut": float(chosen.scores[-1]), "certificate": asdict(certificate)}
    rows = {name: getattr(chosen, name).tolist() for name in ("rows", "scores", "nearest")}
    write_json(run.path / SELECTION, plain({**about, **rows}))
    return {**about, "file": written.name, "files": [written.name, SELECTION]}


def report_step(run: Run) -> dict[str, Any]:
    """Write findings.json and report.html about the selection."""
    chosen, certificate = read_selection(run)
    findings = gather_findings(run, chosen, certificate)
    run.folder.writes("report")
    write_json(run.path / FINDINGS, plain(findings.to_json()))
    report.write(findings, run.path / REPORT)
    methods = {one.name: {"mixture": asdict(one.mixture), "alone": asdict(one.alone)} for one in findings.methods}
    return {"methods": methods, "files": [FINDINGS, REPORT]}


DOORS = {"embed": embed_step, "fit": fit_step, "score": score_step, "select": select_step, "report": report_step}


def read_selection(run: Run) -> tuple[Selection, Certificate]:
    """Read what select_step wrote. Raises DataError for anything else."""
    file = run.path / SELECTION
    saved = read_json(file)
    try:
        chosen = selection.Selection(
            np.array(saved["rows"], np.int64),
            np.array(saved["scores"], np.float64),
            np.array(saved["nearest"], np.int32),
        )
        return chosen, Certificate(**saved["certificate"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: cannot be read as a selection ({error}): delete it, and give the same command again"
        raise DataError(msg) from error


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


def _content(path: str | None) -> str | None:
    """Return a hash of a file of weights: the same name with other numbers is another fit."""
    if path is None:
        return None
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        msg = f"{path}: the weights cannot be read ({error.strerror}): give a .npy file of numbers"
        raise DataError(msg) from error


def _weights(path: str | None, count: int, side: str) -> NDArray[np.float64] | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            weights = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path}: the {side}'s weights cannot be read ({error}): give a .npy file of {count} numbers"
        raise DataError(msg) from error
    return check_weights(weights, count, f"{path}: the {side}'s weights")


def check_weights(weights: NDArray[Any], count: int, name: str) -> NDArray[np.float64]:
    """Return weights (count,) as float64.

    Raises DataError for another shape, negative or non-finite weights, and a sum that is 0 or not finite.
    """
    if weights.shape != (count,) or weights.dtype.kind not in "fiu":
        msg = f"{name} are {weights.dtype} of shape {weights.shape}: give {count} numbers"
        raise DataError(msg)
    weights = weights.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        msg = f"{name}: row {bad[0]} is {weights[bad[0]]}: weights are finite and not negative"
        raise DataError(msg)
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not 0 < total < np.inf:
        msg = f"{name} sum to {total:g}: give at least one row some weight, and all of them a finite sum"
        raise DataError(msg)
    return weights


def _same_embedder(run: Run) -> None:
    made = [one.fingerprint.get("embedder") for one in (run.pool, run.target_store)]
    hashes = [one.get("hash") if isinstance(one, dict) else None for one in made]
    if None not in hashes and hashes[0] != hashes[1]:
        msg = "pool and target were embedded differently: embed both with the same model and settings"
        raise DataError(msg)


def _check_d(pool: int, target: int) -> None:
    if pool != target:
        msg = f"the pool's vectors have {pool} dimensions, the target's {target}: embed both with the same model"
        raise DataError(msg)
