"""The Selector: fit, score, select, and what there is to know of a selection; `load`, one made of a model file."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import backends, model, selection, store, stream
from gapsel.api.posing import aversion, beside, posed, settings_for_arrays
from gapsel.calibration import scores
from gapsel.config import rows_for
from gapsel.distance import distances
from gapsel.errors import UsageError
from gapsel.pipeline.inputs import arrays
from gapsel.pipeline.inputs.rules import caps_of, rules_of, solved
from gapsel.pipeline.steps import sampled
from gapsel.pipeline.steps.choosing import choose_by, limit_of
from gapsel.pipeline.steps.errorbars import error_bars
from gapsel.pipeline.steps.masses import MASSES
from gapsel.pipeline.work import MODEL, task_of
from gapsel.potentials import Start, facing, mass_path
from gapsel.rules import Budget, ByVectors, Rules
from gapsel.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from gapsel.config import Settings
    from gapsel.embed import Encoder
    from gapsel.findings import Certificate, Distances, ErrorBars
    from gapsel.potentials import Aversion, Balance, Rows, Task, Weighed, Weighing
    from gapsel.records import Evidence, Target


class Selector:
    """Choose the rows of a pool that close the gap to a target.

    Takes the settings of `Settings` that concern arrays. The problem: k (a number or "5%"), mass, eps, cost, normalize,
    balance, robust, avoid_strength. Its rules: tokens, at_most, threshold, max_cosine, temperature. The solver:
    tolerance, max_sweeps, fit_rows, seed, backend, threads. Raises UsageError for others, and for values that they
    cannot have.

    >>> chosen = Selector(k=100).fit(target_vectors, pool_vectors).select()
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - see Settings
        self.settings = settings_for_arrays(settings)
        self._backend = backends.choose(**self.settings.sweeper)
        self._model: model.Model | None = None
        self._pool: tuple[Task, NDArray[np.float32]] | None = None
        self._asked: tuple[Target, Weighing] | None = None
        self._weighed: Weighed | None = None
        self._rules: Callable[[str], Rules] = self._without_rules
        self._texts: stream.Scorer | None = None
        self._encoder_at: tuple[str | os.PathLike[str], str | os.PathLike[str] | Encoder | None, str] = "", None, "auto"

    def __repr__(self) -> str:
        """Say the settings that are not the default, and what it is fitted on."""
        if self._model is None:
            state = "not fitted"
        else:
            m, d = self._model.potentials.target.y.shape
            pool = f"{counted(self._n(), 'row')} and " if self._pool else ""
            state = f"fitted on {pool}{counted(m, 'example')} of {counted(d, 'dimension')}"
        return f"<Selector({self.settings.changed}), {state}>"

    def fit(
        self,
        target: ArrayLike,
        pool: ArrayLike | Sequence[ArrayLike],
        *,
        tasks: ArrayLike | None = None,
        target_weights: ArrayLike | None = None,
        pool_weights: ArrayLike | None = None,
        tokens: ArrayLike | None = None,
        barred: ArrayLike | None = None,
        fields: Mapping[str, ArrayLike] | None = None,
        base: ArrayLike | Sequence[ArrayLike] | None = None,
        base_weights: ArrayLike | None = None,
        avoid: ArrayLike | None = None,
    ) -> Selector:
        """Solve for the potentials of target (m, d) and pool (n, d), or a list of pool shards; return self.

        Floating vectors in main memory; float16 and float32 pools are read where they lie, on disk too if they are
        memory maps, and others are copied to float32. Weights (m,) and (n,) are scaled to sum 1. ``tasks`` (m,) are
        labels, numbers or texts, of several tasks, which are weighted as the setting ``balance`` says. A ``base`` (p,
        d), or a list of shards, says in the pool's place what the model has already, with ``base_weights`` (p,); chosen
        is from the pool alone. ``avoid`` (q, d) are examples of what is not wanted: rows near these are dear, as much
        as ``avoid_strength`` says. For the rules of the choice, all (n,): ``tokens`` of each row, where the budget is
        in tokens; ``barred`` rows, true or false, which may not be chosen; ``fields``, the values of those that
        ``at_most`` names. Not converging is said in ``evidence``. Raises DataError for arrays that cannot be used,
        UsageError for a k larger than the pool and for pool weights beside a base.
        """
        task, weighing = posed(
            self.settings, target, pool, target_weights=target_weights, pool_weights=pool_weights, tasks=tasks
        )
        n = task.rows.n
        given = arrays.for_rules(n, tokens, barred, fields or {})
        self._rules = partial(_with_rules, self.settings, n, given)
        task = dataclasses.replace(task, rows=task.rows.allowing(self._rules(self.settings.k).budget.capacity()))
        if base is not None:
            task = beside(self.settings, task, base, base_weights=base_weights, pool_weights=pool_weights)
        self._asked = (task.target, weighing)
        averse = None if avoid is None else aversion(self.settings, task, avoid)
        self._model, f, self._weighed, price = self._solved(task, weighing, aversion=averse)
        self._texts = None
        p, rows = self._model.potentials, dataclasses.replace(task.rows, price=price)
        self._pool = (dataclasses.replace(task, rows=rows, target=p.target, scale=p.scale, eps=p.eps), f)
        return self

    @property
    def evidence(self) -> Evidence:
        """How the solver ended."""
        return self._fitted().potentials.evidence

    @property
    def balance(self) -> Balance | None:
        """The weights of several tasks, in the order of their sorted labels, where the solver was to find them."""
        return None if self._weighed is None else self._weighed.balance

    @property
    def ignored(self) -> NDArray[np.int64]:
        """The rows (i,) of the target that the fit has ignored, where ``robust`` lets it."""
        return np.zeros(0, np.int64) if self._weighed is None else self._weighed.ignored

    @property
    def potentials_(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The potentials f (n,) of the pool and g (m,) of the target."""
        task, f = self._fitted_pool()
        return f[: task.rows.pool_rows], self._fitted().potentials.g

    def score(self, vectors: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the scores (n,) of any vectors (n, d), the lower the better; without vectors, of the pool itself."""
        if vectors is None:
            task, f = self._fitted_pool()
            return scores(f, task.rows.a, self._fitted().calibration.mean)[: task.rows.pool_rows]
        fitted = self._fitted()
        x = arrays.matrix(vectors, "vectors")
        store.check([x], name="vectors", normalize=fitted.potentials.cost.normalize)
        return fitted.score(fitted.f([x], self._backend))

    def score_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores (n,) of texts, embedded as the model's target was.

        For a model from `load` that was fitted on texts. Raises UsageError for another, DataError for texts that cannot
        be embedded and for an encoder that is not the one the model was fitted with.
        """
        return self._scorer().texts(texts if isinstance(texts, str) else list(texts))

    def score_batches(
        self, batches: Iterable[Any], *, text_field: str = "text", vector_field: str | None = None
    ) -> Iterator[Any]:
        """Yield Arrow record batches as they come, with a last column ``gapsel_score`` (float64).

        They have a column of texts or, named by ``vector_field``, of vectors of the same encoder; a model that knows no
        encoder takes their only column of lists of floats. Rows that cannot be used keep their place, with a null.
        """
        return stream.score_batches(self._scorer(), batches, stream.Reading(text_field, vector_field=vector_field))

    def select(self, k: int | str | None = None) -> selection.Selection:
        """Return the selection of k rows of the pool.

        At mass > 0 another k than the fitted is solved for from that; where the target is weighed, from the start.
        Raises UsageError for a k where the budget is in tokens, and where nothing keeps to the rules.
        """
        task, f = self._fitted_pool()
        fitted, wanted = self._fitted(), self.settings.k if k is None else str(k)
        if k is not None and self.settings.tokens is not None:
            msg = f"k is {k}, and the budget is {self.settings.tokens} tokens: make a Selector with another one"
            raise UsageError(msg)
        rules = self._rules(wanted)
        target, weighing = self._asked or (task.target, None)
        weighs = weighing is not None and weighing.asks
        if (self.settings.mass > 0 or weighs) and rules.budget.amount != self._rules(self.settings.k).budget.amount:
            p = fitted.potentials
            start = None if weighs else Start(task.k, p.g, f - task.rows.price, p.evidence.plain_value)
            anew = task_of(self.settings, task.rows.allowing(rules.budget.capacity()), target, task.cost)
            fitted, f, _, _ = self._solved(anew, weighing, start)
        return self._chosen(f, rules, task.rows, fitted)

    def _chosen(self, f: NDArray[np.float32], rules: Rules, rows: Rows, fitted: model.Model) -> selection.Selection:
        """Choose by f (n,) under the rules."""
        s, mean, p = self.settings, fitted.calibration.mean, fitted.potentials
        if rules.plain and s.threshold is None and s.max_cosine is None and not s.temperature:
            return selection.select(f, rules.budget.amount, rows, p, self._backend, mean=mean)
        copies = None if s.max_cosine is None else ByVectors(rows.shards, s.max_cosine)
        limit, of_pool = limit_of(s, mean, rows.a_of_pool), f[: rows.pool_rows]
        choice, _ = choose_by(lambda: [of_pool], rules, s, eps=p.eps, limit=limit, copies=copies)
        return selection.scored(choice.rows, f, rows, p, self._backend, mean=mean)

    def certify(self, chosen: selection.Selection) -> Certificate:
        """Bound how far a selection of the fitted k is from the best one of its size, within the quotas."""
        task, f = self._fitted_pool()
        rules, p = self._rules(self.settings.k), self._fitted().potentials
        at, kept = solved(task, rules, f), None if rules.plain else rules
        return selection.certify(f, chosen.rows, task, p, self._backend, rules=kept, solved_at=at)

    def distances(self, chosen: selection.Selection, *, avoided: bool = False) -> Distances:
        """Return the unregularised distance to the target of the pool, or base, and of the mixture with a selection.

        Each is an interval: weak duality bounds it from below, a plan whose columns are put right from above. With
        ``avoided`` they are those to the examples that are to be avoided, at mass 0 of the selection alone. Raises
        UsageError where there are none.
        """
        task, _ = self._fitted_pool()
        shares = self._rules(self.settings.k).budget.shares(chosen.rows)
        if avoided:
            known = self._fitted().avoided
            if known is None:
                msg = "avoided is true, and this Selector avoids nothing: call fit(target, pool, avoid=...)"
                raise UsageError(msg)
            task = facing(task, known)
        return distances(task, chosen.rows, self._backend, shares)

    def mass_path(self, masses: Sequence[float] = MASSES) -> dict[float, NDArray[np.int64]]:
        """Return the rows (k,) that would be chosen at each of several masses, best first.

        They are those of one shortlist, solved at mass after mass: near those of a fit at each, for a fraction of the
        time. Each mass has its eps by the settings. Raises UsageError for a mass that is not from 0 to 1.
        """
        task = self._under_quotas()
        at = {mass: dataclasses.replace(self.settings, mass=mass) for mass in sorted(masses)}
        tasks = [
            dataclasses.replace(task, mass=mass, eps=task.scale.eps(settings.relative_eps))
            for mass, settings in at.items()
        ]
        choose = self._rules(self.settings.k).choose_some
        return dict(zip(at, mass_path(tasks, self._backend, None, choose), strict=True))

    def error_bars(self, chosen: selection.Selection) -> ErrorBars:
        """Return how steady a selection of the fitted k is: what halves of the target, and of the pool, would choose.

        Raises UsageError for a target of less than four examples.
        """
        task = self._under_quotas()
        return error_bars(task, chosen.rows, self._backend, None, self._rules(self.settings.k).choose_some)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the potentials, a few MB that score anything later (`gapsel.load`), in a file or an existing folder."""
        self._fitted().save(Path(path) / MODEL if Path(path).is_dir() else path)

    def _scorer(self) -> stream.Scorer:
        """Return what scores texts and batches; it keeps the encoder, once that is loaded."""
        if self._texts is None:
            self._texts = stream.Scorer(self._fitted(), self._backend, self._load_encoder)
        return self._texts

    def _load_encoder(self) -> Encoder:
        path, encoder, device = self._encoder_at
        return stream.load_encoder(self._fitted(), path, encoder=encoder, device=device, threads=self.settings.threads)

    def _without_rules(self, k: str) -> Rules:
        return Rules(Budget(self._n(), rows_for(k, self._n())))

    def _solved(
        self, task: Task, weighing: Weighing | None, start: Start | None = None, aversion: Aversion | None = None
    ) -> tuple[model.Model, NDArray[np.float32], Weighed | None, float | NDArray[np.floating]]:
        """Return the fitted model, f (n,) of all rows with what they cost, how the target was weighed, and the cost."""
        caps = caps_of(self._rules(self.settings.k))
        found = sampled.fit(
            task, self.settings.fit_rows, self._backend, aversion=aversion, weighing=weighing, caps=caps, start=start
        )
        fitted = model.Model(found.potentials, found.calibration, avoided=found.avoided)
        if found.f is not None:
            return fitted, found.f, found.weighed, found.price
        price = task.rows.price if found.avoided is None else fitted.prices(task.rows.shards, self._backend)
        return fitted, model.potential(fitted.potentials, task.rows.shards, self._backend) + price, found.weighed, price

    def _under_quotas(self) -> Task:
        """Return the problem that was solved, for others like it to be solved within the same quotas."""
        task, _ = self._fitted_pool()
        return dataclasses.replace(task, rows=task.rows.under(caps_of(self._rules(self.settings.k))))

    def _n(self) -> int:
        return self._fitted_pool()[0].rows.pool_rows

    def _fitted(self) -> model.Model:
        if self._model is None:
            msg = "this Selector is not fitted: call fit(target, pool) first, or gapsel.load a model"
            raise UsageError(msg)
        return self._model

    def _fitted_pool(self) -> tuple[Task, NDArray[np.float32]]:
        self._fitted()
        if self._pool is None:
            msg = "a loaded model has no pool: score(vectors) works, select() needs fit(target, pool)"
            raise UsageError(msg)
        return self._pool


def _with_rules(settings: Settings, n: int, given: dict[str, Any], k: str) -> Rules:
    return rules_of(settings, n, k=k, **given)


def load(
    path: str | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] | Encoder | None = None,
    device: str = "auto",
    **settings: Any,  # noqa: ANN401 - see Settings
) -> Selector:
    """Return a Selector with the potentials of a model file or run folder; it scores, it has no pool to select from.

    The encoder that the model was fitted with is loaded with the first texts; ``encoder`` says where it lies, if it is
    not found by its name, or is one that is loaded already. It runs on ``device``. Raises DataError for a file that is
    missing, damaged or of another version.
    """
    selector = Selector(**settings)
    selector._model = model.load(path)  # noqa: SLF001 - made here
    selector._encoder_at = path, encoder, device  # noqa: SLF001 - as above
    return selector
