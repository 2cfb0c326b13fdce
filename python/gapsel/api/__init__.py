"""Arrays in, arrays out: the method without files, in the manners of scikit-learn.

selector.py   Selector: fit, score, select and what there is to know of a selection; `load`, one made of a model file
posing.py     arrays and settings to the problem that they pose
mixture.py    domain_weights: how much of each domain
"""

from gapsel.api.mixture import domain_weights
from gapsel.api.selector import Selector, load

__all__ = ["Selector", "domain_weights", "load"]
