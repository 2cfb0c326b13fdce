"""The solver: a pool and a target in, potentials out. Written once, over a backend that knows two verbs."""

from gapsel.potentials.recipe import Solution, Task, solve
from gapsel.potentials.rows import Rows, gather

__all__ = ["Rows", "Solution", "Task", "gather", "solve"]
