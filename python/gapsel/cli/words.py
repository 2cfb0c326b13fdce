"""What the doors did, told to people, and as JSON to machines."""

from __future__ import annotations

import math
from json import dumps
from typing import Any

from gapsel.cli import rules
from gapsel.cli.targets import away_from, before, interval, of_fit, of_target
from gapsel.wording import counted

# How many missing parts are named.
_SHOWN = 10


def in_json(summary: dict[str, Any]) -> str:
    """Return what there is to tell as JSON, and nothing that JSON has not."""
    return dumps(summary, indent=2, sort_keys=True, allow_nan=False)


def in_words(door: str, summary: dict[str, Any]) -> str:
    """Say what was done, for people."""
    steps, folder = summary["steps"], summary["folder"]
    if summary["findings"]:
        return "\n".join([*_answer(summary["findings"], _rules(steps)), *_studies(summary), *_files(folder, steps)])
    if door == "embed":
        return _embedded(steps["embed"], folder)
    if door == "fit":
        fit = steps["fit"]
        return (
            f"marginal error {fit['marginal_error']:.1e} in {_sweeps(fit, fit['rows'], fit['pool_rows'])} at eps "
            f"{fit['eps']:.4g}; a document sees about {counted(round(fit['perplexity']), 'target')}{of_fit(fit)}. "
            f"{folder}/model.safetensors"
        )
    if door == "score":
        return f"{counted(steps['score']['rows'], 'score')}, in {folder}/scores"
    chosen = steps["select"]
    words = f"Chose {counted(chosen['k'], 'document')}, at mass {chosen['mass']:g}."
    certainty = _certainty(chosen["certificate"], chosen["mass"])
    moved = filter(None, (_moved(chosen), away_from(chosen["avoided"])))
    return "\n".join([words, *moved, certainty, *_rules(steps), *_studies(summary), *_files(folder, steps)])


def _embedded(done: dict[str, Any], folder: str) -> str:
    """Say how many documents of each side have vectors."""
    named = {"pool": "the pool", "target": "the target", "base": "the base", "avoid": "what is to be avoided"}
    there = [(done[side], of) for side, of in named.items() if side in done]
    (first, of_pool), *more, (last, of_last) = there
    documents = f"{counted(first['rows'], 'document')} of {of_pool}"
    documents += "".join(f", {one['rows']:,} of {of}" for one, of in more)
    return (
        f"{documents} and {last['rows']:,} of {of_last} have vectors of {counted(first['d'], 'dimension')}; "
        f"{counted(sum(one['rejected'] for one, _ in there), 'row')} set aside. They lie in {folder}/vectors"
    )


def task_in_words(facts: dict[str, Any]) -> str:
    """Say what one task of several did, for people."""
    missing, door, folder = facts["missing_parts"], facts["door"], facts["folder"]
    share = f"{facts['own_parts']} of {counted(facts['parts'], 'part')}"
    there = f"Task {facts['task']} of {facts['tasks']}: its share, {share}, is there"
    if not missing:
        return f"{there}, and so are all others. `gapsel {door} -o {folder}` puts them together"
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{there}; missing are those with the numbers {', '.join(map(str, missing[:_SHOWN]))}{more}"


def _answer(found: dict[str, Any], rules_did: list[str]) -> list[str]:
    chose = f"Chose {found['k']:,} of {counted(found['n'], 'document')}"
    lines = [
        f"{chose} for {counted(found['m'], 'example')} of the task, at mass {found['mass']:g}.",
        "",
        f"  {'OT distance to the target':26}{'mixture':>18}{'alone':>18}{'precision':>12}{'overlap':>10}",
        f"  {before(found):26} {interval(found['pool_distance']):>17}",
    ]
    for one in found["methods"]:
        precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
        distances = f" {interval(one['mixture']):>17} {interval(one['alone']):>17}"
        lines.append(f"  {one['name']:26}{distances}{precision:>12}{one['overlap']:>10.0%}")
    lines += [*of_target(found), "", "  " + _certainty(found["certificate"], found["mass"]), *rules_did]
    state = "converged" if found["converged"] else "NOT CONVERGED"
    lines.append(
        f"  {state}: marginal error {found['marginal_error']:.1e} in {_sweeps(found, found['fitted_rows'], found['n'])}"
    )
    if found["rejected_rows"]:
        lines.append(f"  {counted(found['rejected_rows'], 'row')} could not be used: see rejected*.jsonl")
    for title, key in (("Some of the chosen:", "chosen"), ("Barely not chosen:", "barely_rejected")):
        if found[key]:
            lines += ["", title, *(_line(example) for example in found[key][:5])]
    return lines


def _sweeps(solved: dict[str, Any], rows: int, n: int) -> str:
    """Say how often what was read, and what it costs where that was a part."""
    swept = counted(solved["full_sweeps"], "sweep")
    if rows >= n:
        return f"{swept} of the pool"
    return (
        f"{swept} of {counted(rows, 'random document')} of {n:,}, which puts the marginals of all off "
        f"by about {solved['sampling_error']:.1e}"
    )


def _moved(chosen: dict[str, Any]) -> str:
    """Say what the choice does to the distance."""
    before, after = (interval(chosen["distances"][when]) for when in ("before", "after"))
    mixture = f", {after} of the mixture with them" if chosen["mass"] else ""
    return f"OT distance to the target: {before} before the choice{mixture}"


def _rules(steps: dict[str, Any]) -> list[str]:
    """Say what the rules of the choice did."""
    chosen = steps["select"]
    return [f"  {line}" for line in rules.in_lines(chosen["rules"], chosen["k"])]


def _certainty(certificate: dict[str, Any], mass: float) -> str:
    if mass == 0:
        return "at mass 0 the choice is one gradient step: the documents of the lowest scores, which is exact"
    # Rounded up, for it is an upper bound; the tolerance of the solver carries no more than a tenth.
    percent = max(0.1, math.ceil(10 * certificate["percent"]) / 10)
    return f"certificate: no other choice of this size can beat it by more than {percent:g} % of what is attainable"


def _studies(summary: dict[str, Any]) -> list[str]:
    """Say what was asked for about the selection."""
    path, bars = summary.get("mass_path"), summary.get("error_bars")
    return [*(_path(path) if path else ()), *(_bars(bars) if bars else ())]


def _path(found: dict[str, Any]) -> list[str]:
    """Say how the choice moves with the mass."""
    lines = [
        "",
        f"  {'mass':6}{'mixture':>18}{'alone':>18}{'coverage':>10}{'precision':>11}{'of this choice':>16}",
        f"  {'pool':6} {interval(found['pool_distance']):>17}",
    ]
    for one in found["path"]:
        precision = "" if one["precision"] is None else f"{one['precision']:.1%}"
        lines.append(
            f"  {one['mass']:<6g} {interval(one['mixture']):>17} {interval(one['alone']):>17}{one['coverage']:>10.0%}"
            f"{precision:>11}{one['overlap']:>16.0%}"
        )
    return lines


def _bars(found: dict[str, Any]) -> list[str]:
    """Say how steady the choice is."""
    target, pool = found["target"], found["pool"]
    lines = [
        "",
        f"  Half of the examples choose {target['keeps']:.0%} of these; two halves agree on {target['agree']:.0%}.",
        f"  Half of the pool in its place keeps {pool['keeps']:.0%}; two halves agree on {pool['agree']:.0%}.",
    ]
    if not found["steady"]:
        lines.append(
            "  The target may be too small: where halves agree on so little, more examples mostly choose better."
        )
    return lines


def _line(example: dict[str, Any]) -> str:
    text = " ".join((example["text"] or "").split())
    label = f" [{example['label']}]" if example["label"] else ""
    said = f"{example['id']}{label}  {text[:90]}".rstrip()
    # Documents are anybody's: a terminal must not obey what stands in them.
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in said)
    return f"  {example['rank']:>6}  {example['score']:+.4f}  {shown}"


def _files(folder: str, steps: dict[str, Any]) -> list[str]:
    lines = ["", f"Selection  {folder}/{steps['select']['file']}", f"Scores     {folder}/scores/"]
    if "report" in steps:
        lines.append(f"Report     {folder}/report.html")
    return lines
