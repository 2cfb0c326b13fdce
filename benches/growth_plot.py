"""docs/growth.json, which growth.py records, as a picture, docs/growth.svg, and as the table in docs/growth.md.

Both axes are logarithmic, so that time in proportion to the pool is a line of slope one; the thin line is that. The
number at each point is how many times the solver read the whole pool.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from growth import ROOT

from gapsel.report.axes import Axis

DOCS = ROOT / "docs"
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 480, 20, 350
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLE = (
    "text { font: 13px sans-serif; fill: #333 } .rule { stroke: #8884; fill: none } .ideal { stroke: #888; fill: none }"
    " @media (prefers-color-scheme: dark) { text { fill: #ddd } }"
)

TABLE = ("<!-- table -->", "<!-- end of table -->")

Series = list[tuple[float, float, str]]


def series(results: list[dict[str, Any]]) -> dict[str, Series]:
    """Return the curves, each a list of (n, seconds, what stands at the point)."""
    curves: dict[str, Series] = defaultdict(list)
    for one in sorted(results, key=lambda r: (r["m"], r["mass"], r["n"])):
        label = f"m {one['m']}, mass {one['mass']:g}"
        curves[label].append((one["n"], one["seconds"], str(one["full_sweeps"])))
        if one["mass"] == 0:
            curves[f"m {one['m']}, one sweep"].append((one["n"], one["warm"], ""))
    return curves


def axes(curves: dict[str, Series]) -> tuple[Axis, Axis]:
    """Return the axis across, of rows, and the axis upwards, of seconds."""
    n = [point[0] for curve in curves.values() for point in curve]
    seconds = [point[1] for curve in curves.values() for point in curve]
    across = Axis(min(n), max(n), LEFT, RIGHT, log=True)
    return across, Axis(min(seconds) / 1.5, max(seconds) * 1.5, BOTTOM, TOP, log=True)


def frame(x: Axis, y: Axis) -> list[str]:
    """Return the rules, their numbers and the names of the axes."""
    parts = []
    for tick in x.ticks():
        parts.append(f'<path class="rule" d="M{tick.at:.1f} {TOP}V{BOTTOM}"/>')
        parts.append(f'<text x="{tick.at:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick.label}</text>')
    for tick in y.ticks():
        parts.append(f'<path class="rule" d="M{LEFT} {tick.at:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{tick.at + 4:.1f}" text-anchor="end">{tick.label}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 40}" text-anchor="middle">documents in the pool</text>')
    parts.append(f'<text x="14" y="{TOP + 4}" transform="rotate(-90 14 {TOP})" text-anchor="end">seconds</text>')
    return parts


def curve(points: Series, x: Axis, y: Axis, label: str, colour: str) -> list[str]:
    """Return one curve with its points, what stands at them, its name, and the line of slope one through its end."""
    places = [(x.at(n), y.at(seconds), text) for n, seconds, text in points]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in places)
    parts = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for a, b, text in places:
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{a - 4:.1f}" y="{b - 8:.1f}" text-anchor="end">{text}</text>')
    last, (n, seconds, _) = places[-1], points[-1]
    parts.append(f'<text x="{last[0] + 10:.1f}" y="{last[1] + 4:.1f}">{label}</text>')
    first = max(x.low, n * y.low / seconds)
    ideal = f"M{x.at(first):.1f} {y.at(first * seconds / n):.1f}L{last[0]:.1f} {last[1]:.1f}"
    return [f'<path class="ideal" stroke-dasharray="2 4" d="{ideal}"/>', *parts]


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as rows of Markdown."""
    names = ["mass", "n", "seconds", "sweeps", "error", "MB beyond the file", "one sweep", "cold", "read alone"]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += [
        f"| {r['mass']:g} | {r['n']:,} | {r['seconds']:.1f} | {r['full_sweeps']} | {r['error']:.1e} | "
        f"{r['anonymous_bytes'] / 1e6:.0f} | {r['warm']:.3g} | {shown(r['cold'])} | {shown(r['disk'])} |"
        for r in sorted(results, key=lambda r: (r["m"], r["mass"], r["n"]))
    ]
    return "\n".join(lines)


def shown(seconds: float | None) -> str:
    """Return a time that may not have been taken."""
    return "" if seconds is None else f"{seconds:.3g}"


def main() -> None:
    """Draw the recorded results, and renew the table."""
    results = json.loads((DOCS / "growth.json").read_text())["results"]
    page = DOCS / "growth.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(TABLE[0])
    after = rest.partition(TABLE[1])[2]
    page.write_text(f"{before}{TABLE[0]}\n{table(results)}\n{TABLE[1]}{after}", encoding="utf-8")
    curves = series(results)
    x, y = axes(curves)
    parts = frame(x, y)
    for index, (label, points) in enumerate(curves.items()):
        parts += curve(points, x, y, label, COLOURS[index % len(COLOURS)])
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>\n'
    (DOCS / "growth.svg").write_text(svg + "\n".join(parts) + "\n</svg>\n")
    print(f"drew {len(curves)} curves into docs/growth.svg")


if __name__ == "__main__":
    main()
