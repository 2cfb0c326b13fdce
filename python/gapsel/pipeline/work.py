"""One run at work: its folder, its settings, and what its steps share."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gapsel import backends, memory, model
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.folder.parts import Part
from gapsel.pipeline.folder.run_folder import sign
from gapsel.pipeline.folder.stamps import stamp
from gapsel.pipeline.inputs.rules import caps_of, read_rules
from gapsel.pipeline.inputs.targets import Tasks, read_tasks
from gapsel.pipeline.inputs.weights import content_hash, read_weights
from gapsel.pipeline.vectors.sides import open_side, side_files, sides
from gapsel.potentials import Aversion, Rows, Task, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from gapsel.backends import Backend
    from gapsel.config import Settings
    from gapsel.pipeline.folder.run_folder import RunFolder
    from gapsel.records import Cost, CostScale, Potentials, Target
    from gapsel.rules import Rules
    from gapsel.store import Store

MODEL = "model.safetensors"
# The name of the signature that fits share which differ in k alone.
ANY_K = "fit for any k"
# The name of the fact that says where weights that the fit made are: by a model's loss, or of a field.
MADE_WEIGHTS = "made_weights"


@dataclass
class Run:
    """One run at work: its folder, its settings, and what its steps share.

    ``by_stamps`` says that files may be taken for what they were, and ``inputs_state`` how they were when this command
    began to read them, see stamps.py.
    """

    folder: RunFolder
    quiet: bool = False
    signatures: dict[str, str] = field(default_factory=dict)
    by_stamps: bool = False
    inputs_state: str | None = None
    _made_weights: str | None = None

    @property
    def made_weights(self) -> str | None:
        """The file, in the run folder, of weights that the fit made; None before they are made, or without them."""
        if self.settings.loss_weights is None and self.settings.weight_field is None:
            return None
        found: str | None = self._made_weights or self.folder.record["steps"].get("fit", {}).get(MADE_WEIGHTS)
        return found

    @made_weights.setter
    def made_weights(self, file: str | None) -> None:
        self._made_weights = file
        self.forget("pool_content", "rows", "parts")

    @property
    def pool_weights(self) -> str | None:
        """The file of the pool's weights: the one that was given, or the one that the fit made."""
        return str(self.path / self.made_weights) if self.made_weights else self.settings.pool_weights

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
        """What sweeps the pool, and keeps what long sweeps answer until the step is done."""
        machine = backends.choose(**self.settings.sweeper)
        return journal.Journal(machine, self.path / journal.FOLDER, self._swept)

    @cached_property
    def pool(self) -> Store:
        """The pool's vectors, checked."""
        return self._side("pool")

    def _swept(self) -> tuple[list[NDArray[np.floating]], str]:
        """Return the shards of all rows that the solver reads, and a hash of their content."""
        return [shard for store in self.beside_target.values() for shard in store.shards], self.pool_content

    @cached_property
    def base_store(self) -> Store | None:
        """The base's vectors, checked; None where there is no base."""
        return self._side("base") if "base" in sides(self.settings) else None

    @cached_property
    def avoid_store(self) -> Store | None:
        """The vectors of what is to be avoided, checked; None where that is nothing."""
        return self._side("avoid") if "avoid" in sides(self.settings) else None

    @property
    def beside_target(self) -> dict[str, Store]:
        """The sides that are swept, by their names."""
        return {"pool": self.pool} | ({} if self.base_store is None else {"base": self.base_store})

    @cached_property
    def target_store(self) -> Store:
        """The target's vectors, checked."""
        return self._side("target")

    def _side(self, name: str) -> Store:
        """Open a side, and read all of it unless files that a stamp tells of will do."""
        stamps = self.folder.record.setdefault("stamps", {})
        now = stamp(side_files(self.settings, self.path, name))
        known = self.by_stamps and now is not None and stamps.get(name) == now
        opened = open_side(self.settings, self.path, name, check=not known)
        stamps[name] = now
        return opened

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks that the target's examples are of."""
        return read_tasks(self.settings, self.target_store.source_counts())

    @cached_property
    def model(self) -> model.Model:
        """The fitted model."""
        return model.load(self.path / MODEL)

    @cached_property
    def parts(self) -> list[Part]:
        """The parts that the scores come in, with what they follow from: the model, the pool and its weights."""
        fitted, p, avoided = self.model.calibration, self.model.potentials, self.model.avoided
        made_by = sign(*_numbers(p), asdict(p.cost), fitted.mean, fitted.weight, self.pool_content)
        if avoided is not None:
            made_by = sign(made_by, *_numbers(avoided.potentials), avoided.strength, avoided.mean)
        return [
            Part(at, *rows, signature=sign(made_by, at, *rows))
            for at, rows in enumerate(parts.cut(self.pool.starts.tolist()))
        ]

    @cached_property
    def pool_content(self) -> str:
        """A hash of the vectors and weights of the pool, and of the base, and of what made them."""
        inputs = self.folder.record["inputs"]
        vectors = [
            store.fingerprint_hex if store.content else inputs[f"{name}_vectors"]
            for name, store in self.beside_target.items()
        ]
        return sign(*vectors, content_hash(self.pool_weights), content_hash(self.settings.base_weights))

    @cached_property
    def f(self) -> NDArray[np.float32]:
        """The potential of every row of the pool (n,), from the scores; with what it costs, if it does."""
        return _joined(parts.potentials(self.path, self.parts), self.pool.n)

    @cached_property
    def f_of_rows(self) -> NDArray[np.float32]:
        """The same of every row that is swept, those of a base after the pool's."""
        if self.base_store is None:
            return self.f
        return np.concatenate([self.f, self.model.f(self.base_store.shards, self.backend)])

    @cached_property
    def price_of_rows(self) -> NDArray[np.float32] | float:
        """What every row that is swept costs, where something is to be avoided, from the scores; else 0."""
        if self.model.avoided is None:
            return 0.0
        of_pool = _joined(parts.prices(self.path, self.parts), self.pool.n)
        if self.base_store is None:
            return of_pool
        return np.concatenate([of_pool, self.model.prices(self.base_store.shards, self.backend)])

    @property
    def k(self) -> int:
        """How many documents are to be chosen; of a budget of tokens, about how many that is."""
        return self.rules.budget.rows

    @cached_property
    def rules(self) -> Rules:
        """What the choice has to keep to."""
        return read_rules(self.settings, self.path, self.pool, quiet=self.quiet)

    @cached_property
    def rows(self) -> Rows:
        """The rows of pool and base with their weights, once it is known that the memory is enough for them."""
        swept = sum(store.n for store in self.beside_target.values())
        memory.check(swept, self.target_store.n, self.pool.d)
        a = read_weights(self.pool_weights, self.pool.n, "pool")
        rows = Rows.whole(self.pool.shards, self.k, a).allowing(self.rules.budget.capacity())
        base = self.base_store
        if base is None:
            return rows
        return rows.beside(base.shards, read_weights(self.settings.base_weights, base.n, "base"))

    def task(self, target: Target, cost: Cost, scale: CostScale | None = None) -> Task:
        """Return the problem that these settings pose, with the scale of the fit where there is one."""
        return task_of(self.settings, self.rows, target, cost, scale)

    def aversion(self, task: Task) -> Aversion | None:
        """Return the problem that what is to be avoided poses beside a task; None where that is nothing."""
        if self.avoid_store is None:
            return None
        return Aversion.of(task, self.avoid_store.joined(), *self.settings.of_avoided)

    @property
    def fitted_task(self) -> Task:
        """The problem that was solved, but for the prices of quotas: of all rows, with what they cost."""
        p = self.model.potentials
        task = self.task(p.target, p.cost, p.scale)
        return replace(task, rows=replace(self.rows, price=self.price_of_rows))

    @property
    def posed_task(self) -> Task:
        """The same with the quotas, as a solver is to be given it."""
        task = self.fitted_task
        return replace(task, rows=task.rows.under(caps_of(self.rules)))

    def writes(self, step: str) -> None:
        """Say in the record that a step is about to change its first file; see RunFolder.writes."""
        gone = self.folder.writes(step, self.signatures[step])
        if gone:
            self.say(f"removed, since it told of the choice before: {', '.join(gone)}")

    def say(self, text: str) -> None:
        """Tell on stderr which step is at work."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def forget(self, *names: str) -> None:
        """Let go of what was read, since a step has written it anew."""
        for name in names:
            self.__dict__.pop(name, None)


def task_of(s: Settings, rows: Rows, target: Target, cost: Cost, scale: CostScale | None = None) -> Task:
    """Return the problem that settings pose, with the scale of the cost measured where it is not known."""
    scale = scale_of(rows, target, cost, s.seed) if scale is None else scale
    return Task(rows, target, cost, scale, scale.eps(s.relative_eps), s.mass, s.tolerance, s.max_sweeps, s.seed)


def _numbers(p: Potentials) -> tuple[str, float]:
    """Return what a potential of any row follows from, beside the cost."""
    return b"".join(np.ascontiguousarray(one).tobytes() for one in (p.target.y, p.target.b, p.g)).hex(), p.eps


def _joined(batches: Iterator[NDArray[np.float32]], n: int) -> NDArray[np.float32]:
    """Return the batches one after the other (n,)."""
    whole, start = np.empty(n, np.float32), 0
    for batch in batches:
        whole[start : start + len(batch)] = batch
        start += len(batch)
    return whole
