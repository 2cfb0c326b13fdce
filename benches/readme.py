"""The figures in README.md and docs/speed.md, and docs/speed.svg, made from the newest records in benches/record.

The newest one of each machine, that is; the chart is of the newest of all.

Figures stand between marks; the words around them are written by hand. With --check nothing is written; the exit code
says whether all is what the record says.
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
README, PAGE, PICTURE = ROOT / "README.md", ROOT / "docs" / "speed.md", ROOT / "docs" / "speed.svg"
OURS, ONCE = "gapsel-cpu", "gapsel-once"
COLOURS = ("#0072b2", "#d55e00", "#009e73")
LEFT, RIGHT, TOP, STEP = 190, 620, 30, 24
STYLE = (
    "text { font: 13px sans-serif; fill: #333 } .rule { stroke: #8884 }"
    " @media (prefers-color-scheme: dark) { text { fill: #ddd } }"
)


def newest() -> list[dict[str, Any]]:
    """Return the last day's record of each machine, the newest first."""
    by_machine: dict[str, Path] = {}
    for file in sorted(RECORDS.glob("*.json")):
        _, _, _, machine = file.stem.split("-", 3)
        by_machine[machine] = file
    return [record.read(file) for file in sorted(by_machine.values(), reverse=True)]


def text_cases(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the cases that differ in eps alone, largest eps first."""
    cases = {name: case for name, case in found["cases"].items() if name.startswith("text-")}
    return dict(sorted(cases.items(), key=lambda item: -item[1]["relative_eps"]))


def markdown(rows: list[list[str]]) -> str:
    """Return a table."""
    head, *body = (f"| {' | '.join(row)} |\n" for row in rows)
    return head + "|" + " --- |" * len(rows[0]) + "\n" + "".join(body)


def results(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each engine took to the main goal, by its name."""
    return {name: found.get(MAIN_GOAL, {}) for name, found in case["engines"].items()}


def brief(found: dict[str, Any]) -> list[list[str]]:
    """Return a row for each case: gapsel, the fastest of all others, and how many times gapsel's time that takes.

    gapsel twice: to an answer that is proven, and to one at which it stops as the others are stopped.
    """
    texts = text_cases(found)
    rows = [["", "gapsel", "gapsel, one sweep", "the fastest other", "times gapsel's"]]
    for case in ({**texts, **found["cases"]}).values():
        took = {name: result for name, result in results(case).items() if seconds(result)[0]}
        ours = [took.pop(name, {}) for name in (OURS, ONCE)]
        if ours[0]:
            shown = [_time_and_memory(result, case) for result in ours]
            rows.append([_problem(case), *shown, *_fastest(took, case, [seconds(result)[0] for result in ours])])
    return rows


def _fastest(others: dict[str, dict[str, Any]], case: dict[str, Any], ours: list[float]) -> tuple[str, str]:
    """Return the fastest of some engines with its time and memory, and how many times each of ``ours`` it takes."""
    if not others:
        return "none within its limits", "-"
    name = min(others, key=lambda name: seconds(others[name])[0])
    said = f"{table.LABELS[name]}: {_time_and_memory(others[name], case)}"
    return said, " and ".join(table.seconds(seconds(others[name])[0] / mine) for mine in ours if mine)


def _problem(case: dict[str, Any]) -> str:
    return f"{case['about']}; {case['n']:,} rows, {case['m']:,} targets, {case['d']} dimensions"


def _time_and_memory(result: dict[str, Any], case: dict[str, Any]) -> str:
    memory = f", {result['peak_bytes'] / 2**20:,.0f} MiB" if "peak_bytes" in result else ""
    return table.cell(result, case["limit"]) + memory


def summary(found: dict[str, Any]) -> list[list[str]]:
    """Return the time of every engine to the main goal in every case, and the most memory it took in those of text."""
    cases = found["cases"]
    names = [name for name in table.LABELS if any(name in case["engines"] for case in cases.values())]
    rows = [["", *cases, "memory"]]
    for name in names:
        cells = [_cell(case, results(case).get(name, {})) for case in cases.values()]
        rows.append([table.LABELS[name], *cells, _memory(found, name)])
    return rows


def _cell(case: dict[str, Any], result: dict[str, Any]) -> str:
    said = table.cell(result, case["limit"])
    mine = results(case).get(OURS, {})
    took = seconds(result)[0]
    if not took or "seconds" not in mine or result is mine:
        return said
    return f"{said}, {table.seconds(took / mine['seconds'])} x"


def _memory(found: dict[str, Any], name: str) -> str:
    of_texts = [results(case).get(name, {}) for case in text_cases(found).values()]
    peaks = [result["peak_bytes"] for result in of_texts if "peak_bytes" in result]
    return f"{max(peaks) / 2**20:,.0f} MiB" if peaks else "-"


def in_readme(newest: list[dict[str, Any]]) -> str:
    """Return what stands between the marks in the README: gapsel beside the fastest other on each machine, a chart."""
    tables = [f"{_machine(found)}:\n\n{markdown(brief(found))}\n" for found in newest]
    return "".join(tables) + _chart("docs/speed.svg", newest[0])


def _machine(found: dict[str, Any]) -> str:
    machine = found["machine"]
    tiles = f" ({machine['isa']})" if "isa" in machine else ""
    return f"{machine['cpu']}{tiles}, {found['threads']} threads, {machine['memory_gib']} GiB, {found['date']}"


def _chart(file: str, found: dict[str, Any]) -> str:
    cpu = found["machine"]["cpu"]
    return f'<img src="{file}" width="660" alt="Time of each solver to an error of 1e-3, for three eps, on {cpu}">\n'


def overview(newest: list[dict[str, Any]]) -> str:
    """Return for each machine its cases and a table of all engines at the main goal; and the chart."""
    parts = []
    for found in newest:
        packages = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
        parts.append(f"{_machine(found)}; {packages}.\n\n{markdown(summary(found))}\n")
    every = {name: case for found in newest for name, case in found["cases"].items()}
    cases = "".join(f"- {name}: {_problem(every[name])}\n" for name in sorted(every))
    return f"{cases}\n{''.join(parts)}{_chart('speed.svg', newest[0])}"


def figures(newest: list[dict[str, Any]]) -> str:
    """Return every case, engine and goal, machine by machine."""
    return "\n".join(part for found in newest for part in (f"### {_machine(found)}\n", *_cases(found)))


def _cases(found: dict[str, Any]) -> list[str]:
    """Return a heading, what is asked, and a table for each case."""
    parts = []
    for name, case in found["cases"].items():
        steps = ", ".join(f"{goal}: {count}" for goal, count in case["sinkhorn_steps"].items())
        parts.append(
            f"#### {name}\n\n{case['about'].capitalize()}; n {case['n']:,}, m {case['m']:,}, d {case['d']}, k "
            f"{case['k']:,}. Exact Sinkhorn steps to each goal, on {case['steps_counted_on']:,} rows: {steps}.\n\n"
            f"{markdown(table.rows(case))}"
        )
    return parts


def picture(found: dict[str, Any]) -> str:
    """Return a chart: a line for each engine, a dot for each eps at its seconds, hollow where they are extrapolated."""
    cases = text_cases(found)
    dots = {name: [seconds(results(case).get(name, {})) for case in cases.values()] for name in table.LABELS}
    dots = {name: row for name, row in dots.items() if any(took for took, _ in row)}
    every = [took for row in dots.values() for took, _ in row if took]
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
        for (took, measured), colour in zip(row, COLOURS, strict=False):
            if took:
                parts.append(_dot(axis.at(took), y, colour, measured=measured))
    for index, (case, colour) in enumerate(zip(cases.values(), COLOURS, strict=False)):
        x = LEFT + 150 * index
        parts.append(f'<circle cx="{x}" cy="12" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="16">eps {case["relative_eps"]:g} of the mean</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + 40} {bottom + 28}">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def seconds(result: dict[str, Any]) -> tuple[float, bool]:
    """Return the seconds that a goal took, 0 for none, and whether they were measured."""
    return result.get("seconds", result.get("predicted_seconds", 0.0)), "seconds" in result


def _dot(x: float, y: float, colour: str, *, measured: bool) -> str:
    fill = colour if measured else "none"
    return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def put(page: str, name: str, made: str) -> str:
    """Return a page with what stands between the marks of this name renewed. Raises ValueError where it has none."""
    before, begin, rest = page.partition(f"<!-- {name}: written by benches/readme.py -->\n")
    _, end, after = rest.partition(f"<!-- {name}: end -->\n")
    if not begin or not end:
        msg = f"there is no place for {name}"
        raise ValueError(msg)
    return f"{before}{begin}{made}{end}{after}"


def written(newest: list[dict[str, Any]]) -> dict[Path, str]:
    """Return the three files as the records would have them."""
    readme, page = README.read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")
    return {
        README: put(readme, "speed", in_readme(newest)),
        PAGE: put(put(page, "summary", overview(newest)), "figures", figures(newest)),
        PICTURE: picture(newest[0]),
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
