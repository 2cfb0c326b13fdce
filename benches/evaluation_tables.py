"""The tables of docs/evaluation.md, made of the records of benches/evaluation.py: ranks, losses, paired differences."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from gapsel.evaluation import Mean, Trial, mean_of, verdict_of

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benches" / "record" / "evaluation"
PAGE = ROOT / "docs" / "evaluation.md"
MARKS = ("<!-- tables: begin -->", "<!-- tables: end -->")
OURS = "gapsel, mass 0.5"

Methods = dict[str, dict[str, Any]]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all targets, each with the target's name."""
    files = sorted(folder.glob("*.json"))
    return [{"name": file.stem, **json.loads(file.read_text(encoding="utf-8"))} for file in files]


def methods_of(record: dict[str, Any]) -> Methods:
    """Return a target's methods by their names."""
    return {one["name"]: one for one in record["methods"]}


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table in Markdown, with an empty line after it."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] + [""]


def plus_minus(value: Mean, sign: str = "") -> str:
    """Return a mean with half of its interval."""
    return f"{value.mean:{sign}.3f} ± {value.upper - value.mean:.3f}"


def difference(one: dict[str, Any], other: dict[str, Any], when: str = "tuned") -> Mean:
    """Return the paired difference of two methods' losses, below 0 where the first is better."""
    pairs = zip(one["trials"], other["trials"], strict=True)
    return mean_of([getattr(Trial(**a), when) - getattr(Trial(**b), when) for a, b in pairs])


def ranks(records: list[dict[str, Any]], when: str) -> list[str]:
    """Return each method's rank on each target, and in the mean."""
    found: dict[str, list[int]] = {}
    for record in records:
        losses = {name: one[when]["mean"] for name, one in methods_of(record).items() if one["rank"]}
        for place, name in enumerate(sorted(losses, key=lambda name: losses[name]), 1):
            found.setdefault(name, []).append(place)
    order = sorted(found, key=lambda name: fmean(found[name]))
    rows = [[name, *map(str, found[name]), f"{fmean(found[name]):.1f}"] for name in order]
    return table(["method", *(record["name"] for record in records), "mean rank"], rows)


def losses(record: dict[str, Any]) -> list[str]:
    """Return what was measured on one target."""
    rows = []
    for one in record["methods"]:
        precision = "" if one.get("precision") is None else f"{one['precision']:.1%}"
        warmed, tuned = (plus_minus(mean_of([trial[when] for trial in one["trials"]])) for when in ("warmed", "tuned"))
        less = difference(one, methods_of(record)["random"])
        against = "" if one["against"] is None else f"{plus_minus(less, '+')}, {one['verdict']}"
        tokens = "" if one.get("tokens") is None else f"{one['tokens']:,.0f}"
        rows.append([one["name"], precision, tokens, warmed, tuned, against])
    held = record["held_out"]
    title = (
        f"**{record['name']}**: {record['target']['documents']} examples, {held['documents']} held out "
        f"({held['tokens']:,} tokens, {held['bytes']:,} bytes); {record['lm']['loss']:.3f} before any training; "
        f"{len(record['seeds'])} seeds"
    )
    head = ["method", "precision", "tokens chosen", "after warm-up", "after fine-tuning", "less random's"]
    return [title, "", *table(head, rows)]


def pairs(records: list[dict[str, Any]], name: str, others: list[str], when: str) -> list[str]:
    """Return the paired differences of one method from others on each target, with what they show."""
    rows = []
    for other in others:
        cells = []
        for record in records:
            methods = methods_of(record)
            found = difference(methods[name], methods[other], when)
            cells.append(f"{plus_minus(found, '+')}, {verdict_of(found)}")
        rows.append([other, *cells])
    return table([f"{name} less", *(record["name"] for record in records)], rows)


def tables(records: list[dict[str, Any]]) -> list[str]:
    """Return all tables."""
    baselines = ["random", "nearest neighbours", "round-robin neighbours", "DSIR", "no warm-up"]
    masses = [f"gapsel, mass {mass}" for mass in ("0", "0.1", "1")]
    return [
        *("### Ranks after the fine-tuning", "", *ranks(records, "tuned")),
        *("### Ranks after the warm-up", "", *ranks(records, "warmed")),
        *("### gapsel at mass 0.5 against each baseline, after the fine-tuning", ""),
        *pairs(records, OURS, baselines, "tuned"),
        *("### gapsel at mass 1 against each baseline, after the fine-tuning", ""),
        *pairs(records, "gapsel, mass 1", baselines, "tuned"),
        *(
            "### Mass 0.5 against other masses",
            "",
            "After the fine-tuning:",
            "",
            *pairs(records, OURS, masses, "tuned"),
        ),
        *("After the warm-up:", "", *pairs(records, OURS, masses, "warmed")),
        *("### Losses", "", *(line for record in records for line in losses(record))),
    ]


def write_tables(folder: Path, page: Path = PAGE) -> None:
    """Write the tables into their place on the page, if there is one."""
    if not page.exists():
        return
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    made = "\n".join(tables(read_records(folder))).rstrip()
    page.write_text(f"{before}{MARKS[0]}\n\n{made}\n\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_tables(RECORDS)
