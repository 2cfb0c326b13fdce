"""How much of each domain: the weights of the mixture that is nearest to the target, certified, no model trained.

problem.py    what is asked                     domains.py    the pool by domains
simplex.py    what slopes mean for weights      dual.py       the dual of the best mixture
sample.py     it on samples of the domains      solve.py      from nothing to certified weights
weigh.py      the target's own weights, where these are to be found
clusters.py   domains where none are known      choose.py     documents by the weights
"""

from gapsel.mixture.choose import apportion, chosen_within
from gapsel.mixture.domains import Domains
from gapsel.mixture.problem import Problem, capacities
from gapsel.mixture.solve import Mixed, mix
from gapsel.mixture.weigh import Weighed, weigh

__all__ = [
    "Domains",
    "Mixed",
    "Problem",
    "Weighed",
    "apportion",
    "capacities",
    "chosen_within",
    "mix",
    "weigh",
]
