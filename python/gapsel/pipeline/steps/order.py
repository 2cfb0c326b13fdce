"""Which steps there are, what each depends on, and the way through them."""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

from gapsel.config import BUDGET, RULES, STEPS, STUDIES, Settings, in_effect
from gapsel.errors import DataError
from gapsel.pipeline.folder import journal, parts
from gapsel.pipeline.folder.results import discard_after
from gapsel.pipeline.folder.run_folder import sign
from gapsel.pipeline.folder.stamps import stamp, state
from gapsel.pipeline.inputs.barred import lists_hash
from gapsel.pipeline.inputs.unchanged import unchanged
from gapsel.pipeline.inputs.weights import content_hash
from gapsel.pipeline.steps.embed import embed_step
from gapsel.pipeline.steps.errorbars import error_bars_step
from gapsel.pipeline.steps.fit import fit_step
from gapsel.pipeline.steps.masses import mass_path_step
from gapsel.pipeline.steps.page import renew_page
from gapsel.pipeline.steps.report import report_step
from gapsel.pipeline.steps.score import score_step
from gapsel.pipeline.steps.select import select_step
from gapsel.pipeline.vectors.fingerprints import input_files, input_fingerprints
from gapsel.pipeline.vectors.sides import check_inputs, sides
from gapsel.pipeline.work import ANY_K, MODEL

if TYPE_CHECKING:
    from gapsel.pipeline.work import Run

DOORS = {
    "embed": embed_step,
    "fit": fit_step,
    "score": score_step,
    "select": select_step,
    "mass_path": mass_path_step,
    "error_bars": error_bars_step,
    "report": report_step,
}


def signatures(settings: Settings, inputs: dict[str, str]) -> dict[str, str]:
    """Return the signature of every step under these settings and inputs, and that of fits which differ in k alone."""
    embed = sign(settings.of("embed"), inputs)
    fitting, asked = settings.of("fit"), in_effect(settings)
    # At mass 0 a fit knows nothing of what is to be chosen, unless the target is weighed by it.
    knows = settings.mass > 0 or settings.weighs
    bars = [settings.tokens is None, asked["token_field"], settings.at_most, lists_hash(settings)]
    own = [{name: value for name, value in fitting.items() if name not in BUDGET}, bars if knows else None]
    weights = [content_hash(getattr(settings, f"{side}_weights")) for side in ("pool", "target", "base")]
    any_k = sign(embed, own, weights)
    fit = sign(any_k, settings.k, settings.tokens) if knows else any_k
    select = sign(fit, bars, [asked[name] for name in (*BUDGET, *RULES)])
    studies = {name: sign(select, settings.label_field, name) for name in STUDIES}
    report = sign(select, settings.label_field, settings.methods, settings.studies)
    return {"embed": embed, ANY_K: any_k, "fit": fit, "score": fit, "select": select, **studies, "report": report}


def steps_to(last: str, settings: Settings) -> tuple[str, ...]:
    """Return the steps up to and including ``last``, with what is asked for about the selection after it."""
    way = (*STEPS[:-1], *settings.studies, STEPS[-1])
    return way[: len(way) if last == STEPS[-1] else len(way) - 1 if last == "select" else way.index(last) + 1]


def advance_to(run: Run, last: str) -> None:
    """Do the steps up to and including ``last``, but for those that are done."""
    signature = run.signatures = signatures(run.settings, checked_inputs(run))
    for name in steps_to(last, run.settings):
        if run.folder.is_done(name, signature[name]):
            run.say(f"{name}: done before")
            continue
        run.say(f"{name} ...")
        began = time.perf_counter()
        with unchanged(run, partial(_let_go, run, name)):
            facts = DOORS[name](run)
        run.folder.finish(name, signature[name], time.perf_counter() - began, facts)
        journal.clear(run.path)
    if last == STEPS[-1]:
        renew_page(run)
    # Of a step that was stopped just before it could do so itself.
    journal.clear(run.path)


def _let_go(run: Run, step: str) -> None:
    """Delete what a step wrote, but for shards of texts, which know the hashes of these."""
    if step == "embed":
        for side in sides(run.settings):
            if getattr(run.settings, f"{side}_vectors"):
                shutil.rmtree(run.path / "vectors" / side, ignore_errors=True)
    elif step == "fit":
        (run.path / MODEL).unlink(missing_ok=True)
    elif step == "score":
        parts.discard(run.path, run.parts)
    else:
        discard_after("fit" if step == "select" else "select", run.path)


def checked_inputs(run: Run) -> dict[str, str]:
    """Return the inputs' fingerprints; refuse what is missing or no longer what the run began with."""
    check_inputs(run.settings, run.path)
    try:
        files = input_files(run.settings)
        run.inputs_state, now = state(files), stamp(files)
        run.by_stamps = _may_go_by_stamps(run, now)
        inputs = run.folder.record["inputs"] if run.by_stamps else input_fingerprints(run.settings)
    except DataError as error:
        if "inputs" not in run.folder.record:
            raise
        msg = f"{error}; the run in {run.path} was made of it, and reads it again"
        raise DataError(msg) from error
    run.folder.check_inputs(inputs)
    run.folder.record["inputs"] = inputs
    run.folder.record.setdefault("stamps", {})["inputs"] = now
    return inputs


def _may_go_by_stamps(run: Run, now: str | None) -> bool:
    """Tell whether the inputs are as they were when they were read last, and all sweeps that fit and score are done."""
    record = run.folder.record
    if now is None or "inputs" not in record or record.get("stamps", {}).get("inputs") != now:
        return False
    signature = signatures(run.settings, record["inputs"])
    return all(run.folder.is_done(name, signature[name]) for name in ("embed", "fit", "score"))
