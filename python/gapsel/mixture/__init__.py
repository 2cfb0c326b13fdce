"""How much of each domain: the weights of the mixture that is nearest to the target, certified, no model trained.

domains.py    the pool by domains               simplex.py    what slopes mean for their weights
dual.py       the dual of the best mixture      solve.py      from nothing to certified weights
clusters.py   domains where none are known      choose.py     documents by the weights
"""

from gapsel.mixture.choose import apportion, chosen_within
from gapsel.mixture.domains import Domains
from gapsel.mixture.solve import Mixed, Problem, capacities, mix

__all__ = ["Domains", "Mixed", "Problem", "apportion", "capacities", "chosen_within", "mix"]
