"""Does the selection help? A language model is trained on it and on what simpler methods choose, over several seeds.

In the folder evaluation/: choices.json, what each method chose; trainings.json, what came of each training, written
anew, whole, when one is finished; lm/, the small GPT where no model was given. evaluation.json is the summary.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gapsel import baselines, evaluation
from gapsel.config import Settings
from gapsel.embed.pretrained import require_packages
from gapsel.errors import UsageError
from gapsel.files import write_json
from gapsel.findings import own_name
from gapsel.pipeline.folder import journal
from gapsel.pipeline.folder.run_folder import plain, read_json, sign
from gapsel.pipeline.inputs.labels import read_labels
from gapsel.pipeline.steps.page import EVALUATION, remember_study, renew_page
from gapsel.pipeline.steps.select import read_selection
from gapsel.pipeline.studies.choices import choices
from gapsel.pipeline.studies.compare import check_compared
from gapsel.pipeline.studies.pretrained import read_lm
from gapsel.pipeline.studies.trained import Texts, Tokens
from gapsel.pipeline.vectors.sides import has_texts
from gapsel.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gapsel.pipeline.inputs.labels import Labels
    from gapsel.pipeline.studies.choices import Choice
    from gapsel.pipeline.work import Run

FOLDER = "evaluation"
_OWN = {field.name for field in fields(Settings) if field.metadata["doors"] == ("evaluate",)}
# What every method is compared with too: the target alone, without any selection.
NO_WARM_UP = "no warm-up"


def check_evaluated(settings: Settings) -> None:
    """Raise, before the long work begins, where an evaluation cannot be had."""
    require_packages()
    check_compared(settings)
    lacking = next((side for side in ("pool", "target") if not has_texts(settings, side)), None)
    if lacking:
        msg = f"the {lacking} was given as vectors alone, and a model is trained on texts: run with --{lacking} too"
        raise UsageError(msg)
    if not settings.test:
        msg = (
            "test is empty: name held-out examples of the task (--test), a part that was split off the target before "
            "the run, say"
        )
        raise UsageError(msg)


def train_and_judge(run: Run) -> dict[str, Any]:
    """Train on every method's choice by every seed, but for what is done; write the summary, and return it."""
    s, folder = run.settings, run.path / FOLDER
    labels = {side: read_labels(run, side) for side in ("pool", "target")}
    seeds = range(s.seed, s.seed + s.seeds)
    chosen = choices(run, labels, seeds, folder / "choices.json")
    journal.clear(run.path)
    texts = Texts(s, chosen)
    _warn(run, texts)
    tokens = Tokens(texts, read_lm(run, folder / "lm"), s.context)
    about_lm = _about_lm(s, tokens)
    _warn_of_lm(run, tokens, about_lm)
    recipe = evaluation.Recipe(s.context, s.warm_tokens, s.tune_tokens, s.learning_rate)
    trainer = _Trainer(run, tokens, recipe, folder / "trainings.json")
    trials = trainer.trials(chosen)
    facts = {name: _facts(tokens, chosen, name, labels) for name in trials}
    summary = {
        "k": len(read_selection(run).selection.rows),
        "mass": s.mass,
        "seeds": list(seeds),
        "recipe": asdict(recipe) | {"rate": recipe.rate_for(tokens.lm.parameters)},
        "lm": about_lm,
        "target": {"documents": len(texts.target), "tokens": sum(map(len, tokens.target))},
        "held_out": _about_held_out(tokens),
        "methods": [_told(one, facts, trials) for one in _judged(trials, s)],
    }
    # What the folder had is no more what its record says, from the change on.
    run.folder.remember("evaluation", {})
    write_json(run.path / EVALUATION, plain(summary))
    # The settings that other steps share stay what those steps were done with.
    run.folder.record["settings"] |= {name: value for name, value in s.to_json().items() if name in _OWN}
    told = {"file": EVALUATION, "methods": list(s.methods)}
    remember_study(run.folder, "evaluation", sign(plain(summary)), told)
    renew_page(run)
    return plain(summary)  # type: ignore[no-any-return]


def _judged(trials: dict[str, list[evaluation.Trial]], settings: Settings) -> list[evaluation.Judged]:
    return evaluation.judge(trials, baselines.Random.name, NO_WARM_UP, own_name(settings.mass))


@dataclass
class _Trainer:
    """Trains, and keeps what came of each training in a file."""

    run: Run
    tokens: Tokens
    recipe: evaluation.Recipe
    file: Path

    def trials(self, chosen: dict[int, list[Choice]]) -> dict[str, list[evaluation.Trial]]:
        """Return the trials of each method, one for each seed: seed by seed, so that a stop leaves whole seeds."""
        done = read_json(self.file) if self.file.exists() else {}
        found: dict[str, list[evaluation.Trial]] = {}
        total = sum(1 + len(many) for many in chosen.values())
        with track("evaluate", total, "trainings", enabled=not self.run.quiet) as advance:
            for seed, many in chosen.items():
                named = [(NO_WARM_UP, None), *((one.name, self.tokens.texts.rows(one, seed)) for one in many)]
                for name, rows in named:
                    found.setdefault(name, []).append(self._trial(done, name, rows, seed))
                    advance(1)
        return found

    def _trial(self, done: dict[str, Any], name: str, rows: list[int] | None, seed: int) -> evaluation.Trial:
        signature = self._signature(rows, seed)
        if signature not in done:
            began = time.perf_counter()
            documents = None if rows is None else [self.tokens.selected[row] for row in rows]
            made = evaluation.trial(
                self.tokens.lm, documents, self.tokens.target, self.tokens.held_out, recipe=self.recipe, seed=seed
            )
            seconds = round(time.perf_counter() - began, 3)
            done[signature] = {"method": name, "seed": seed, **asdict(made), "seconds": seconds}
            write_json(self.file, done)
        return evaluation.Trial(done[signature]["warmed"], done[signature]["tuned"])

    def _signature(self, rows: list[int] | None, seed: int) -> str:
        """Return a hash of what a training follows from."""
        texts, inputs = self.tokens.texts, self.run.folder.record["inputs"]
        held_out = sign(texts.held_out)
        return sign(
            self.tokens.lm.identity, asdict(self.recipe), inputs["pool"], inputs["target"], held_out, rows, seed
        )


def _warn(run: Run, texts: Texts) -> None:
    """Say where the judge is partial: held-out texts that the choice, or the model, has seen."""
    found = _also_in(texts.held_out, texts.target)
    if found:
        run.say(f"warning: {found} of {len(texts.held_out)} held-out texts are in the target too: leave them out there")
    found = _also_in(texts.held_out, texts.selected.values())
    if found:
        run.say(
            f"warning: {found} of {len(texts.held_out)} held-out texts are also among what some method chose from the "
            "pool, and are trained on: leave them out there (--held-out)"
        )


def _warn_of_lm(run: Run, tokens: Tokens, about: dict[str, Any]) -> None:
    """Say, before anything is trained, that a model knows less than nothing of the held-out texts."""
    guessing = math.log(tokens.lm.model.config.vocab_size)
    if about["loss"] > guessing:
        run.say(
            f"warning: {about['model']} loses {about['loss']:.1f} nats per token of the held-out texts, and guessing "
            f"{guessing:.1f}: it may be damaged, or its tokenizer another's, and what comes of it means little"
        )


def _also_in(held_out: Sequence[str], others: Iterable[str]) -> int:
    return len(set(held_out).intersection(others))


def _about_lm(settings: Settings, tokens: Tokens) -> dict[str, Any]:
    lm = tokens.lm
    made = (
        Path(settings.lm).name
        if settings.lm
        else f"a small GPT, trained on {settings.pretrain_tokens:,} tokens of the pool's text"
    )
    return {"model": made, "parameters": lm.parameters, "identity": lm.identity, "loss": lm.loss(tokens.held_out)}


def _about_held_out(tokens: Tokens) -> dict[str, Any]:
    texts, blocks = tokens.texts, tokens.held_out
    shared = _also_in(texts.held_out, texts.target)
    return {"documents": len(texts.held_out), "tokens": blocks.tokens, "bytes": blocks.bytes, "in_target": shared}


def _facts(
    tokens: Tokens, chosen: dict[int, list[Choice]], name: str, labels: dict[str, Labels]
) -> dict[str, float | None]:
    """Return what is known of a method's choice, in the mean over the seeds, before anything is trained."""
    texts = tokens.texts
    rows = [(one, texts.rows(one, seed)) for seed, many in chosen.items() for one in many if one.name == name]
    if not rows:
        return {}
    akin = labels["pool"].akin(labels["target"]) if labels["pool"] and labels["target"] else None
    held_out = [_also_in(texts.held_out, (texts.selected[row] for row in some)) for _, some in rows]
    return {
        "tokens": fmean(sum(len(tokens.selected[row]) for row in some) for _, some in rows),
        "seconds": fmean(one.seconds for one, _ in rows),
        "precision": fmean(akin[one.rows].mean() for one, _ in rows) if akin is not None and akin.any() else None,
        "held_out_chosen": max(held_out),
    }


def _told(
    one: evaluation.Judged, facts: dict[str, dict[str, float | None]], trials: dict[str, list[evaluation.Trial]]
) -> dict[str, Any]:
    """Return all that there is to tell of a method."""
    return {**asdict(one), **facts[one.name], "trials": [asdict(trial) for trial in trials[one.name]]}
