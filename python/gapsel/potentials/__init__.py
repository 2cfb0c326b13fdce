"""The solver: a pool and a target in, potentials out. Written once, over a backend that knows two verbs."""

from gapsel.potentials.ascent import ascend, promised_rise
from gapsel.potentials.dual import Dual, Point
from gapsel.potentials.recipe import Solution, Start, Task, annealed, shortlist_sizes, solve
from gapsel.potentials.rows import Rows, gather

__all__ = [
    "Dual",
    "Point",
    "Rows",
    "Solution",
    "Start",
    "Task",
    "annealed",
    "ascend",
    "gather",
    "promised_rise",
    "shortlist_sizes",
    "solve",
]
