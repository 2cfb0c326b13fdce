"""`gapsel evaluate`: a small language model, trained on the selection and on what simpler methods choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapsel.cli.flags import add_study
from gapsel.cli.words import in_json
from gapsel.wording import counted

if TYPE_CHECKING:
    from gapsel.cli.flags import Commands

_ABOUT = "does the selection help? A language model is trained on it, and on what simpler methods choose"
_MORE = """{about}.

In a run folder: a model is warmed up on each method's choice, fine-tuned on the target, and judged by its loss on
--test texts of the task, over several seeds; every method gets as many tokens and steps. What is trained is not
trained again.

  gapsel evaluate -o OUT --test HELD-OUT
"""


def add(commands: Commands) -> None:
    """Add the command."""
    description = _MORE.format(about=f"{_ABOUT[0].upper()}{_ABOUT[1:]}")
    command = add_study(commands, "evaluate", _ABOUT, description, door="evaluate")
    command.set_defaults(do=_evaluate)


def _evaluate(out: str, *, json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - settings
    from gapsel import pipeline

    found = pipeline.evaluate(out, quiet=quiet, **given)
    print(in_json(found) if json else _table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    held, lm, recipe = found["held_out"], found["lm"], found["recipe"]
    what = f"{counted(recipe['warm_tokens'], 'token')} of warm-up, then {recipe['tune_tokens']:,} of fine-tuning"
    unit = f"nats per token ({held['tokens'] / held['bytes']:.3f} tokens per byte)"
    lines = [
        f"{counted(found['k'], 'document')} each, {counted(len(found['seeds']), 'seed')}; {what}",
        f"{lm['model']}: {lm['parameters']:,} parameters, {lm['loss']:.3f} before any of it",
        f"Loss of {counted(held['documents'], 'held-out text')} in {unit}, with 95 % intervals",
        "",
        f"  {'':24}{'precision':>10}{'after warm-up':>18}{'after fine-tuning':>20}{'rank':>6}   against random",
    ]
    lines += [_row(one) for one in found["methods"]]
    shared = max(one.get("held_out_chosen", 0) for one in found["methods"])
    if shared or held["in_target"]:
        lines += ["", f"  Held-out texts that were seen: {held['in_target']} in the target, {shared} in a selection"]
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> str:
    precision = "" if one.get("precision") is None else f"{one['precision']:.1%}"
    rank = "" if one["rank"] is None else str(one["rank"])
    against = "" if one["against"] is None else f"   {_mean(one['against'], '+')} {one['verdict']}"
    losses = f"{_mean(one['warmed']):>18}{_mean(one['tuned']):>20}"
    return f"  {one['name']:24}{precision:>10}{losses}{rank:>6}{against}".rstrip()


def _mean(value: dict[str, float | None], sign: str = "") -> str:
    """Return a mean with half the width of its interval, which one seed alone has not."""
    if value["upper"] is None or value["mean"] is None:
        return f"{value['mean']:{sign}.3f}"
    return f"{value['mean']:{sign}.3f} ± {value['upper'] - value['mean']:.3f}"
