"""What plain transport may lie above its dual value at most, by one look: the plan of the look, its columns put right.

At any g the plan P = (r_i p_ij) has the row masses r, but columns q that miss b. Every plan with the rows r and the
columns b costs at least what transport does, <P, C> + eps KL(P | r b'), so that one of them bounds it from above where
the dual value D(g) bounds it from below. Such a plan is made in two steps, and neither reads the rows again:

    P1_ij = P_ij + v_i r_i p_ij (t_j - <p_i, t>)         columns q + M t,    M = diag(gram_q) - gram (see records.Sweep)
    P2_ij = P1_ij min(1, b_j / q1_j) + (what that takes off row i) e_j,      e: what the columns lack, scaled to sum 1

t solves M t = b - q, as far as no entry of P1 leaves the range of P_ij (1 +- rho). With L the mass that P2 moves,
S = max v_i, psi(u) = (1 + u) log(1 + u) - u and H(u) = -(1 - u) log(1 - u), the convexity of KL gives

    <P2, C> + eps KL(P2 | r b') - D(g)  <=  eps S psi(-rho) / rho^2 <t, M t>
        + L (max_i (<e, c_i> - f_i) - <e, g> + eps KL(e | b) - eps log(1 - rho))
        + eps (sum_{j: q1_j > b_j} b_j log(b_j / q1_j) + H(L))

The first term is of second order in b - q, and with S = 1 half of Newton's decrement at the limit, which is what D has
still to rise by. A Gram whose p are rounded alike is one of a plan nearby, for which P1 is as good, if S is a little
larger. Without a Gram t = 0, and the bound is of first order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapsel.backends.reference import EXPONENTIALS, GRAM_COST, GRAM_MASS, GRAM_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapsel.records import Query, Sweep

# The largest rho: beyond it the second step does what is left.
_REACH = 0.9
# Two roundings to bfloat16.
_ROUNDED = 1.0 + 2.0**-7
# Enough for columns that no row sees; what the solution then misses is left to the second step.
_DAMPING = 1e-6
_TINY = 1e-300


def excess(query: Query, sweep: Sweep, f: NDArray[np.float32], d: int) -> float:
    """Return what plain transport lies above the dual value at most, at a look with fixed row masses and its f (n,).

    ``d`` is the rows' number of dimensions. The bound is up to the rounding of the sweep, some 1e-6 of the costs.
    """
    used = query.target.b > 0
    b, q = query.target.b[used], np.maximum(sweep.q[used], _TINY)
    # The rows' plans sum to their masses but for rounding, which is not to be paid for as mass that has to be moved.
    q *= b.sum() / q.sum()
    if sweep.gram is None or sweep.gram_q is None:
        return _poured(query, f, b, q)
    matrix = np.diag(sweep.gram_q[used]) - sweep.gram[np.ix_(used, used)]
    stands_for = _ROUNDED * most_stood_for(np.asarray(query.box.lo), len(b), len(f), d)
    t = _answer(matrix, b, q, _REACH / (2.0 * stands_for))
    moved, rho = matrix @ t, stands_for * float(np.ptp(t))
    spent = query.eps * stands_for * _share_of_square(rho) * max(0.0, float(t @ moved))
    return spent + _poured(query, f, b, np.maximum(q + moved, _TINY), dearer=-float(np.log1p(-rho)))


def most_stood_for(r: NDArray[np.float64], m: int, n: int, d: int) -> float:
    """Bound how many rows like itself a row of the Gram stands for; r one number or (n,), of rows or alike."""
    least = max(min(n / (GRAM_ROWS * m), GRAM_COST * m / (d + EXPONENTIALS)), GRAM_MASS)
    return max(1.0, least / (n * float(np.min(r, initial=np.inf, where=r > 0))))


def _answer(
    matrix: NDArray[np.float64], b: NDArray[np.float64], q: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """Return t (m,) that brings the columns to b, cut at +- reach."""
    damped = matrix.copy()
    damped[np.diag_indices_from(damped)] += _DAMPING * np.maximum(b, q)
    t = np.linalg.solve(damped, b - q)
    return np.clip(t - b @ t, -reach, reach)


def _share_of_square(rho: float) -> float:
    """Return psi(-rho) / rho^2, which psi(u) is at most of u^2 for u from -rho on; 1/2 at the limit."""
    if rho < 1e-4:  # noqa: PLR2004 - where rounding would be more than the series' next term
        return 0.5 + rho / 5.0
    return ((1.0 - rho) * float(np.log1p(-rho)) + rho) / rho**2


def _poured(
    query: Query, f: NDArray[np.float32], b: NDArray[np.float64], q: NDArray[np.float64], *, dearer: float = 0.0
) -> float:
    """Return what it costs at most to move what columns (m,) have too much into those that lack it."""
    lack, over = np.maximum(b - q, 0.0), q > b
    mass = max(float(lack.sum()), float((q - b)[over].sum()))
    if not lack.any():
        return 0.0
    e, g = lack / lack.sum(), query.g[query.target.b > 0]
    held = e > 0
    kl = float(e[held] @ np.log(e[held] / b[held]))
    first = _farthest(query, f, e) - float(e @ g) + query.eps * (kl + dearer)
    left = max(1.0 - mass, _TINY)
    return mass * first + query.eps * (float(b[over] @ np.log(b[over] / q[over])) - left * float(np.log(left)))


def _farthest(query: Query, f: NDArray[np.float32], e: NDArray[np.float64]) -> float:
    """Bound <e, c_i> - f_i over the rows that weigh something; f_i tells how near a row's nearest target is at most."""
    cost, used = query.cost, query.target.b > 0
    y, of_rows = query.target.y[used].astype(np.float64), f[np.broadcast_to(np.asarray(query.box.lo), f.shape) > 0]
    if cost.normalize or cost.kind == "cosine":
        y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), _TINY)
        most = 1.0 + float(np.linalg.norm(e @ y))
        farthest = {"cosine": most, "sqeuclidean": 2.0 * most, "euclidean": float(np.sqrt(2.0 * most))}[cost.kind]
        return farthest - float(of_rows.min())
    away, highest = np.linalg.norm(y - e @ y, axis=1), float(query.g[used].max())
    if cost.kind == "euclidean":
        return highest + float(away.max() + e @ away)
    nearest = float(np.sqrt(max(0.0, float(of_rows.max()) + highest)))
    return highest + 2.0 * float(away.max()) * nearest + float(away.max() ** 2 + e @ away**2)
