"""A record in words: for each case a table of engines and goals, of times, or of the reasons why there is none."""

from __future__ import annotations

from typing import Any

from gapsel.bench.cases import ERRORS, GOALS, MAIN_GOAL, OVERLAPS
from gapsel.bench.engines import ENGINES

LABELS = {engine.name: engine.label for engine in ENGINES}
HEADS = tuple(f"L1 {error:.0e}" for error in ERRORS) + tuple(f"top {overlap:g}" for overlap in OVERLAPS)


def rows(case: dict[str, Any]) -> list[list[str]]:
    """Return a case's table, a row for each engine: label, a cell for each goal asked for, memory, ratio to gapsel."""
    asked = [goal for goal in GOALS if any(goal in results for results in case["engines"].values())]
    head = ["", *(HEADS[GOALS.index(goal)] for goal in asked), "memory", "times gapsel's"]
    mine = case["engines"].get("gapsel-cpu", {}).get(MAIN_GOAL, {}).get("seconds")
    body = [
        [LABELS[name], *(cell(results.get(goal, {}), case["limit"]) for goal in asked), _memory(results),
         _ratio(results.get(MAIN_GOAL, {}), mine)]
        for name, results in case["engines"].items()
    ]  # fmt: skip
    return [head, *body]


def cell(result: dict[str, Any], limit: float) -> str:
    """Say what reaching a goal costs, or why it is not reached."""
    if "seconds" in result:
        return f"{seconds(result['seconds'])} s"
    why = result.get("why", "")
    if why == "time":
        predicted = result.get("predicted_seconds")
        return f"> {limit:g} s" if predicted is None else f"(about {seconds(predicted)} s)"
    if why == "stalls":
        return f"stalls at {result['error']:.0e}"
    return {"memory": "out of memory", "": "-"}.get(why, "fails")


def seconds(value: float) -> str:
    """Return three digits of a time."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _memory(results: dict[str, dict[str, Any]]) -> str:
    peaks = [result["peak_bytes"] for result in results.values() if "peak_bytes" in result]
    return f"{max(peaks) / 2**20:,.0f} MiB" if peaks else "-"


def _ratio(result: dict[str, Any], mine: float | None) -> str:
    """Return how many times gapsel's the time to the main goal is."""
    value = result.get("seconds", result.get("predicted_seconds"))
    return "-" if mine is None or value is None else f"{value / mine:.1f}"


def in_words(record: dict[str, Any]) -> str:
    """Return the whole record as text."""
    machine = record["machine"]
    lines = [f"{machine['cpu']}, {record['threads']} threads, {machine['memory_gib']} GiB; {record['date']}"]
    for name, case in record["cases"].items():
        lines += ["", f"{name}: {case['about']}; n {case['n']:,}, m {case['m']:,}, d {case['d']}, k {case['k']:,}"]
        table = rows(case)
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines += ["  " + "  ".join(_aligned(row, widths)).rstrip() for row in table]
    return "\n".join(lines)


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    return [
        text.rjust(width) if column else text.ljust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
