"""The solver: a pool and a target in, potentials out. Written once, over a backend that knows two verbs."""

from gapsel.potentials.ascent import ascend, promised_rise
from gapsel.potentials.avoiding import Aversion, facing
from gapsel.potentials.balancing import balance, weighted
from gapsel.potentials.beside import solve_plain
from gapsel.potentials.capped import priced
from gapsel.potentials.caps import Cap
from gapsel.potentials.dual import Dual, Point
from gapsel.potentials.gathering import gather
from gapsel.potentials.levelling import Balance, levelled
from gapsel.potentials.recipe import annealed, look, solve
from gapsel.potentials.rows import Rows, scale_of
from gapsel.potentials.sizes import shortlist_sizes
from gapsel.potentials.task import Solution, Start, Task
from gapsel.potentials.variations import check_halves, halves, mass_path
from gapsel.potentials.weighing import Weighed, Weighing, weigh

__all__ = [
    "Aversion",
    "Balance",
    "Cap",
    "Dual",
    "Point",
    "Rows",
    "Solution",
    "Start",
    "Task",
    "Weighed",
    "Weighing",
    "annealed",
    "ascend",
    "balance",
    "check_halves",
    "facing",
    "gather",
    "halves",
    "levelled",
    "look",
    "mass_path",
    "priced",
    "promised_rise",
    "scale_of",
    "shortlist_sizes",
    "solve",
    "solve_plain",
    "weigh",
    "weighted",
]
