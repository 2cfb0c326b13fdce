"""A share of a step for schedulers without Ray: task i of N does every N-th part of the pool, from the i-th on.

Tasks share the run folder with each other and with no other command; each part is written whole and recognised by what
it follows from, so a task that is given again does what it has not done. The command of the same step without a task
does what is missing and puts the parts together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapsel.errors import UsageError
from gapsel.pipeline.folder import parts
from gapsel.pipeline.inputs.unchanged import unchanged
from gapsel.pipeline.steps.order import checked_inputs, signatures
from gapsel.pipeline.steps.score import write_parts
from gapsel.pipeline.vectors.sides import at_work, load_encoder, look_at, maker
from gapsel.progress import track

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run


@dataclass(frozen=True, slots=True)
class Task:
    """Task ``index``, from 0, of ``count``. Raises UsageError where that is none."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            msg = f"task_index is {self.index} and task_count {self.count}: give an index from 0 to the count less 1"
            raise UsageError(msg)

    @property
    def lock(self) -> str:
        """The name of its lock: the same task does not run twice at a time."""
        return f"task-{self.index}-of-{self.count}"


def do_task(run: Run, door: str, task: Task) -> dict[str, Any]:
    """Do a task's share of a step, and return its facts: parts in all, its own, and the missing ones of others."""
    signature = run.signatures = signatures(run.settings, checked_inputs(run))
    if door == "score" and not run.folder.is_done("fit", signature["fit"]):
        msg = f"{run.path}: has no fit of these settings: `gapsel fit -o {run.path}` first, then the tasks of `score`"
        raise UsageError(msg)
    count, missing = (_embed if door == "embed" else _score)(run, task)
    own = len(range(task.index, count, task.count))
    return {
        "folder": str(run.path), "door": door, "task": task.index, "tasks": task.count, "parts": count,
        "own_parts": own, "missing_parts": missing,
    }  # fmt: skip


def _score(run: Run, task: Task) -> tuple[int, list[int]]:
    todo = [part for part in run.parts[task.index :: task.count] if parts.finished(run.path, part) is None]
    shown = track("score", sum(map(len, todo)), enabled=not run.quiet)
    with unchanged(run, lambda: parts.discard(run.path, todo)), shown as advance:
        for part, _ in write_parts(run, todo):
            advance(len(part))
    return len(run.parts), [part.at for part in run.parts if parts.finished(run.path, part) is None]


def _embed(run: Run, task: Task) -> tuple[int, list[int]]:
    if not run.settings.pool or run.settings.pool_vectors:
        msg = "the pool is given with its vectors: there is nothing to embed, and so nothing for a task to do"
        raise UsageError(msg)
    side = look_at(run.settings, "pool")
    embedder = at_work(run.settings, run.path, [side], load_encoder(run.settings, [side]))
    made = maker(run.settings, run.path, side, embedder)
    todo = made.missing(made.shards[task.index :: task.count])
    shown = track("embed pool", made.rows_of(todo), "documents", enabled=not run.quiet)
    with unchanged(run, lambda: made.discard_parts(todo)), shown as advance:
        made.write_parts(todo, advance)
    return len(made.shards), made.missing(made.shards)
