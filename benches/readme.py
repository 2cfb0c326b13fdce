"""The README's figures, docs/speed.md and docs/speed.svg, made from the newest record in benches/record.

With --check nothing is written; the exit code says whether all three are what the record says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gapsel.bench import record, table
from gapsel.bench.cases import MAIN_GOAL
from gapsel.report.axes import Axis

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benches" / "record"
BEGIN, END = "<!-- speed: written by benches/readme.py -->\n", "<!-- speed: end -->\n"
COLOURS = ("#0072b2", "#d55e00", "#009e73")
LEFT, RIGHT, TOP, STEP = 190, 620, 30, 24
STYLE = (
    "text { font: 13px sans-serif; fill: #333 } .rule { stroke: #8884 }"
    " @media (prefers-color-scheme: dark) { text { fill: #ddd } }"
)


def newest() -> dict[str, Any]:
    """Return the record of the last day."""
    return record.read(max(RECORDS.glob("*.json")))


def text_cases(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the cases that differ in eps alone, largest eps first."""
    cases = {name: case for name, case in found["cases"].items() if name.startswith("text-")}
    return dict(sorted(cases.items(), key=lambda item: -item[1]["relative_eps"]))


def markdown(rows: list[list[str]]) -> str:
    """Return a table."""
    head, *body = (f"| {' | '.join(row)} |\n" for row in rows)
    return head + "|" + " --- |" * len(rows[0]) + "\n" + "".join(body)


def summary(found: dict[str, Any]) -> list[list[str]]:
    """Return the time of every engine to the main goal in every case, and the most memory it took in those of text."""
    cases = found["cases"]
    names = [name for name in table.LABELS if any(name in case["engines"] for case in cases.values())]
    rows = [["", *cases, "memory"]]
    for name in names:
        cells = [_cell(case, case["engines"].get(name, {}).get(MAIN_GOAL, {})) for case in cases.values()]
        rows.append([table.LABELS[name], *cells, _memory(found, name)])
    return rows


def _cell(case: dict[str, Any], result: dict[str, Any]) -> str:
    said = table.cell(result, case["limit"])
    mine = case["engines"].get("gapsel-cpu", {}).get(MAIN_GOAL, {})
    seconds = _seconds(result)[0]
    if not seconds or "seconds" not in mine or result is mine:
        return said
    return f"{said}, {table.seconds(seconds / mine['seconds'])} x"


def _memory(found: dict[str, Any], name: str) -> str:
    results = [case["engines"].get(name, {}).get(MAIN_GOAL, {}) for case in text_cases(found).values()]
    peaks = [result["peak_bytes"] for result in results if "peak_bytes" in result]
    return f"{max(peaks) / 2**20:,.0f} MiB" if peaks else "-"


def section(found: dict[str, Any]) -> str:
    """Return what stands between the marks in the README."""
    machine, versions = found["machine"], found["versions"]
    cases = "".join(
        f"- {name}: {case['about']}; {case['n']:,} rows, {case['m']:,} targets, {case['d']} dimensions\n"
        for name, case in found["cases"].items()
    )
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"{machine['cpu']}, {found['threads']} threads, {machine['memory_gib']} GiB, {found['date']}; {packages}.\n\n"
        f"{cases}\n{markdown(summary(found))}\n"
        '<img src="docs/speed.svg" width="660" alt="Time of each solver to an error of 1e-3, for three eps">\n\n'
        "[All figures](docs/speed.md)\n"
    )


def page(found: dict[str, Any]) -> str:
    """Return docs/speed.md: every case, engine and goal."""
    parts = ["# Speed, all figures\n\nWritten by benches/readme.py; the README says what was measured and how.\n"]
    for name, case in found["cases"].items():
        steps = ", ".join(f"{goal}: {count}" for goal, count in case["sinkhorn_steps"].items())
        parts.append(
            f"\n## {name}\n\n{case['about'].capitalize()}; n {case['n']:,}, m {case['m']:,}, d {case['d']}, k "
            f"{case['k']:,}. Exact Sinkhorn steps to each goal, on {case['steps_counted_on']:,} rows: {steps}.\n\n"
            f"{markdown(table.rows(case))}"
        )
    return "".join(parts)


def picture(found: dict[str, Any]) -> str:
    """Return a chart: a line for each engine, a dot for each eps at its seconds, hollow where they are extrapolated."""
    cases = text_cases(found)
    dots = {
        name: [_seconds(case["engines"].get(name, {}).get(MAIN_GOAL, {})) for case in cases.values()]
        for name in table.LABELS
    }
    dots = {name: row for name, row in dots.items() if any(seconds for seconds, _ in row)}
    every = [seconds for row in dots.values() for seconds, _ in row if seconds]
    axis = Axis(min(every) / 1.3, max(every) * 1.3, LEFT, RIGHT, log=True)
    bottom = TOP + STEP * len(dots)
    parts = [
        f'<line class="rule" x1="{tick.at:.1f}" y1="{TOP - 8}" x2="{tick.at:.1f}" y2="{bottom}"/>'
        f'<text x="{tick.at:.1f}" y="{bottom + 16}" text-anchor="middle">{tick.label} s</text>'
        for tick in axis.ticks()
    ]
    for line, (name, row) in enumerate(dots.items()):
        y = TOP + STEP * line + STEP // 2
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{table.LABELS[name]}</text>')
        for (seconds, measured), colour in zip(row, COLOURS, strict=False):
            if seconds:
                parts.append(_dot(axis.at(seconds), y, colour, measured=measured))
    for index, (case, colour) in enumerate(zip(cases.values(), COLOURS, strict=False)):
        x = LEFT + 150 * index
        parts.append(f'<circle cx="{x}" cy="12" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="16">eps {case["relative_eps"]:g} of the mean</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + 40} {bottom + 28}">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _seconds(result: dict[str, Any]) -> tuple[float, bool]:
    """Return the seconds to draw, 0 for none, and whether they were measured."""
    return result.get("seconds", result.get("predicted_seconds", 0.0)), "seconds" in result


def _dot(x: float, y: float, colour: str, *, measured: bool) -> str:
    fill = colour if measured else "none"
    return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def written(found: dict[str, Any]) -> dict[Path, str]:
    """Return the three files as the record would have them."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        readme: before + BEGIN + section(found) + END + after,
        ROOT / "docs" / "speed.md": page(found),
        ROOT / "docs" / "speed.svg": picture(found),
    }


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is not current")
    check = parser.parse_args().check
    files = written(newest())
    if check:
        return int(any(not file.exists() or file.read_text(encoding="utf-8") != text for file, text in files.items()))
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
