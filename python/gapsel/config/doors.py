"""What the settings speak of: the steps and studies of a run, its methods, and which settings belong together."""

from __future__ import annotations

STEPS = ("embed", "fit", "score", "select", "report")
# What a run tells of its choice only if asked: settings of the same names.
STUDIES = ("mass_path", "error_bars")
METHODS = ("random", "nearest", "roundrobin", "centroid", "kde", "dsir", "curated")
# What is chosen, by which a fit at a mass above 0 differs; and how, which is for the choice alone.
BUDGET = ("k", "tokens", "token_field", "at_most", "exclude", "held_out")
RULES = ("threshold", "max_jaccard", "max_cosine", "temperature")
# What says the weights of the pool's rows, one of them at a time.
POOL_WEIGHTS = ("pool_weights", "loss_weights", "weight_field")
# What cannot change a result: a run may be taken up again with another value of it.
WITHOUT_EFFECT = ("threads", "device", "memory", "ray", "gpu_share", *STUDIES)
# The doors that take settings of one kind.
EMBED = ("run", "embed", "mix")
FIT = ("run", "fit")
SOLVE = (*FIT, "mix")
SELECT = ("run", "fit", "select")
EVALUATE = ("evaluate",)
ALL = ("run", *STEPS, "mix", "evaluate")
