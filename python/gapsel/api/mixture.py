"""How much of each domain, for arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapsel import backends
from gapsel.api.posing import posed, settings_for_arrays
from gapsel.config import rows_for
from gapsel.mixture import Domains, Problem, capacities, mix, weigh
from gapsel.pipeline.inputs import arrays
from gapsel.pipeline.studies.mixing import described, named_domains, with_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from gapsel.findings import Mixture


def domain_weights(
    target: ArrayLike,
    pool: ArrayLike | Sequence[ArrayLike],
    domains: ArrayLike,
    *,
    tasks: ArrayLike | None = None,
    target_weights: ArrayLike | None = None,
    pool_weights: ArrayLike | None = None,
    k: int | None = None,
    **settings: Any,  # noqa: ANN401 - see Settings
) -> Mixture:
    """Return how much of each domain makes the mixture that is nearest to the target (m, d), certified.

    ``domains`` (n,) are the labels, texts or numbers, of the rows of pool (n, d) or of its shards together; ``tasks``,
    weights and ``settings`` are as for `Selector`, and ignored examples are told by their rows. With a ``k`` no domain
    gets more weight than it has rows for, of k in all. Raises DataError for arrays that cannot be used, UsageError
    where there are less than two domains or too many.
    """
    s = settings_for_arrays(dict(**settings, mass=1.0))
    task, weighing = posed(
        s, target, pool, target_weights=target_weights, pool_weights=pool_weights, tasks=tasks
    )  # fmt: skip
    named = named_domains(domains, task.rows.n)
    divided = Domains.of(task.rows, named.codes)
    hi = np.ones(divided.u) if k is None else capacities(divided.counts, rows_for(str(k), divided.n))
    problem = Problem(
        divided, task.target, task.cost, task.scale, task.eps, hi, task.tolerance, task.max_sweeps, task.seed
    )
    backend = backends.choose(**s.sweeper)
    weighed = weigh(problem, weighing, backend)
    found = described(weighed.problem, mix(weighed.problem, backend), named, backend)
    given = arrays.tasks_of(tasks, task.target.b)
    return with_weights(found, given, weighed, [str(row) for row in weighed.ignored.tolist()])
