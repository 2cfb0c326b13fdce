"""Settings: few, flat, frozen, validated here and nowhere else. Defaults live here alone.

The command line's flags, run.json and the report are made from these fields; `doors` says which commands take a flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import os
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from gapsel.errors import UsageError
from gapsel.records import CostKind  # noqa: TC001 - get_type_hints reads it
from gapsel.remote import is_url

STEPS = ("embed", "fit", "score", "select", "report")
# What a run tells of its choice only if asked: settings of the same names.
STUDIES = ("mass_path", "error_bars")
METHODS = ("random", "nearest", "roundrobin", "centroid", "kde", "dsir", "curated")
# What is chosen, by which a fit at a mass above 0 differs; and how, which is for the choice alone.
BUDGET = ("k", "tokens", "token_field", "at_most", "exclude", "held_out")
RULES = ("threshold", "max_jaccard", "max_cosine", "temperature")
_PATHS = ("pool", "target", "base", "pool_vectors", "target_vectors", "base_vectors", "exclude", "held_out", "test")
_WEIGHTS = ("pool_weights", "target_weights", "base_weights")
_MODELS = ("model", "loss_weights", "lm")
_OF_TASKS = ("target", "target_vectors")
_WORDS = {bool: "true or false", int: "a whole number", str: "text"}
# What cannot change a result: a run may be taken up again with another value of it.
WITHOUT_EFFECT = ("threads", "device", "memory", "ray", "gpu_share", *STUDIES)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# More would be a slip of the hand that takes the machine down with it.
_MOST_THREADS = 1024
# Of a target of which most is noise nothing tells which part that is.
_MOST_IGNORED = 0.5
_EMBED = ("run", "embed", "mix")
_FIT = ("run", "fit")
_SOLVE = (*_FIT, "mix")
_SELECT = ("run", "fit", "select")
_EVALUATE = ("evaluate",)


def _field(default: Any, text: str, doors: tuple[str, ...], **more: Any) -> Any:  # noqa: ANN401 - any type of setting
    return dataclasses.field(default=default, metadata={"help": text, "doors": doors, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a run depends on. Raises UsageError, naming the setting, the value and what it may be."""

    pool: tuple[str, ...] = _field((), "candidate documents: files, folders or globs", _EMBED, metavar="PATH")
    target: tuple[str, ...] = _field(
        (), "examples of the task: files, folders or globs; given again, of another task", _EMBED, metavar="PATH",
        repeats=True,
    )  # fmt: skip
    pool_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the pool (.npy, .parquet, .jsonl) instead of embedding it", _EMBED, metavar="PATH"
    )
    target_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the target (.npy, .parquet, .jsonl) instead of embedding it", _EMBED, metavar="PATH",
        repeats=True,
    )  # fmt: skip
    base: tuple[str, ...] = _field(
        (), "documents like those that the model was trained on, or that are chosen already; without them the pool "
        "stands for these", _EMBED, metavar="PATH",
    )  # fmt: skip
    base_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the base (.npy, .parquet) instead of embedding it", _EMBED, metavar="PATH"
    )
    paths_per_task: tuple[int, ...] = _field(
        (), "how many of the target's paths each of several tasks has, as --target given again says it",
        ("run", "embed", "fit", "mix"), metavar="N",
    )  # fmt: skip
    balance: Literal["gap", "tasks", "examples"] = _field(
        "gap",
        "what several tasks share alike: gap, each closes as much of what it could close by itself; tasks, the same "
        "weight; examples, none of it, each weighs as many examples as it has",
        _SOLVE,
    )
    robust: float = _field(
        0.0, "share of the target, below 0.5, that may be ignored: the examples that nothing in the pool serves", _FIT
    )
    text_field: str = _field("text", "field that holds the text", _EMBED)
    id_field: str = _field("id", "field that holds the id", _EMBED)
    vector_field: str | None = _field(
        None,
        "field that holds the vectors of .parquet and .jsonl (default: the only one with lists of numbers)",
        _EMBED,
    )
    label_field: str | None = _field(
        None,
        "field with a label (a domain, say): the report judges by it, `gapsel mix` mixes its values; the choice "
        "never reads it",
        ("run", "report", "mix", "evaluate"),
    )
    methods: tuple[str, ...] = _field(
        METHODS[:3], f"simple ways to choose that the report shows beside gapsel's: {', '.join(METHODS)}",
        ("run", "report", "evaluate"), metavar="METHOD",
    )  # fmt: skip
    model: str = _field("default", "encoder: a local folder or a hub name (default: all-MiniLM-L6-v2)", _EMBED)
    features: Literal["text", "hidden", "gradient"] = _field(
        "text", "vectors of a sentence encoder (text), or of your own language model: its hidden states or gradients",
        _EMBED,
    )  # fmt: skip
    gradient_dims: int = _field(1024, "dimensions that gradients are projected to", _EMBED)
    pooling: Literal["mean", "cls", "last"] = _field("mean", "how token vectors become one", _EMBED)
    max_tokens: int = _field(256, "documents are cut after so many tokens", _EMBED)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _field("auto", "precision of the encoder", _EMBED)
    device: str = _field("auto", "where the encoder runs: auto, cpu, cuda, cuda:1 ...", (*_EMBED, "evaluate"))
    cost: CostKind = _field("sqeuclidean", "ground cost", _SOLVE)  # noqa: RUF009 - as all the others
    normalize: bool = _field(True, "scale vectors to unit norm", _SOLVE)  # noqa: FBT003 - a field's default
    pool_weights: str | None = _field(
        None, "weights of the pool's rows (.npy), default all equal", _SOLVE, metavar="PATH"
    )
    loss_weights: str | None = _field(
        None, "language model by whose loss the pool is weighted, exp(-loss): a local folder or a hub name", _SOLVE
    )
    target_weights: str | None = _field(
        None, "weights of the target's rows (.npy), default all equal", _SOLVE, metavar="PATH"
    )
    base_weights: str | None = _field(
        None, "weights of the base's rows (.npy), default all equal", _FIT, metavar="PATH"
    )
    k: str = _field(
        "1%",
        "how many documents to choose: a number, or per cent of the pool",
        (*_SELECT, "mix"),
        short="-k",
        metavar="K",
    )
    tokens: str | None = _field(
        None, "choose so many tokens, like 50M, instead of -k documents; a document weighs as many as it has", _SELECT,
        metavar="COUNT",
    )  # fmt: skip
    token_field: str | None = _field(
        None,
        "field with a document's number of tokens (default: as its encoder counted, at most --max-tokens)",
        _SELECT,
    )
    at_most: tuple[str, ...] = _field(
        (), "the largest share of the choice that one value of a field may be, like domain=20%; file=20% for files",
        _SELECT, metavar="FIELD=SHARE",
    )  # fmt: skip
    threshold: float | None = _field(
        None, "choose only documents with a score of at most this, even if they are fewer", ("run", "select")
    )
    exclude: tuple[str, ...] = _field(
        (), "documents that must not be chosen: a .txt of ids, one a line, or files of documents with the same text",
        (*_SELECT, "mix"), metavar="PATH",
    )  # fmt: skip
    held_out: tuple[str, ...] = _field(
        (), "documents that the model is to be tested on: what shares 13 words in a row with them is not chosen",
        (*_SELECT, "mix"), metavar="PATH",
    )  # fmt: skip
    max_jaccard: float | None = _field(
        None, "choose nothing whose text is as much like a better chosen one: 0.7, say, of their five-word runs",
        ("run", "select"),
    )  # fmt: skip
    max_cosine: float | None = _field(
        None, "choose nothing whose vector is as much like that of a better chosen one: a cosine, 0.95, say",
        ("run", "select"),
    )  # fmt: skip
    temperature: float = _field(
        0.0, "chance in the choice, in units of eps: documents are drawn by exp(-f / (temperature eps))",
        ("run", "select"),
    )  # fmt: skip
    mass: float = _field(
        0.5, "share of the training distribution that the selection will make up; 0 is GOT-D's single step", _FIT
    )
    eps: float | None = _field(
        None,
        "entropic regularisation, in standard deviations of a document's costs (default: 0.5, falling to 0.1 from "
        "mass 0.5 to 1)",
        _SOLVE,
    )
    tolerance: float = _field(1e-3, "marginal error at which the solver stops", _SOLVE)
    fit_rows: int = _field(
        2_000_000, "rows that the solver reads; of a larger pool it takes a random part, and scores all", _FIT
    )
    max_sweeps: int = _field(60, "sweeps of the whole pool after which the solver gives up", _SOLVE)
    seed: int = _field(0, "seed of all sampling", _SOLVE)
    mass_path: bool = _field(
        False, "also tell how the choice moves with the mass, from 0 to 1", ("run", "select")  # noqa: FBT003 - a default
    )  # fmt: skip
    error_bars: bool = _field(
        False, "also tell what halves of the target and of the pool would choose", ("run", "select")  # noqa: FBT003
    )  # fmt: skip
    clusters: int | None = _field(
        None,
        "take so many k-means clusters of the vectors for domains, not the values of --label-field (default: 64, where "
        "there is no such field)",
        ("mix",),
    )
    choose: bool = _field(
        False, "also choose k documents, of each domain its share", ("mix",)  # noqa: FBT003 - a default
    )  # fmt: skip
    backend: Literal["auto", "cpu", "gpu", "ray", "reference"] = _field(
        "auto", "what sweeps the pool", (*_FIT, "score", "select", "mix")
    )
    ray: bool = _field(
        False,  # noqa: FBT003 - a field's default
        "work on the Ray cluster at RAY_ADDRESS, or on a Ray started on this machine; the results are the same",
        ("run", *STEPS, "mix"),
    )
    gpu_share: float | None = _field(
        None,
        "share of a GPU that each worker of a cluster takes (default: 1 to sweep, 0.5 to embed)",
        ("run", *STEPS, "mix"),
    )
    test: tuple[str, ...] = _field(
        (), "held-out examples of the task, none of them in the target, by which the selections are judged", _EVALUATE,
        metavar="PATH",
    )  # fmt: skip
    lm: str | None = _field(
        None,
        "causal language model that is trained: a local folder or a hub name (default: a small GPT, trained before on "
        "random text of the pool)",
        _EVALUATE,
    )
    masses: tuple[str, ...] = _field((), "also choose at these masses", _EVALUATE, metavar="X")
    seeds: int = _field(5, "trainings of each method", _EVALUATE)
    warm_tokens: int = _field(65_536, "tokens of the warm-up on a selection", _EVALUATE)
    tune_tokens: int = _field(16_384, "tokens of the fine-tuning on the target", _EVALUATE)
    pretrain_tokens: int = _field(1_500_000, "tokens that the small GPT is trained on at first", _EVALUATE)
    context: int = _field(128, "tokens that the model reads at once", _EVALUATE)
    learning_rate: float | None = _field(
        None, "highest learning rate (default: by the number of parameters)", _EVALUATE
    )
    threads: int = _field(0, "processor threads; 0: all that the process may use", ("run", *STEPS, "mix", "evaluate"))

    memory: str | None = _field(
        None, "memory that the run may hold, like 2GB (default: half of what the machine has)", ("run", *STEPS, "mix"),
        metavar="SIZE",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(type(self)).items():
            value = _plain(getattr(self, name), kind)
            _check_type(name, value, kind)
            object.__setattr__(self, name, value)
        _check(0.0 <= self.mass <= 1.0, "mass", self.mass, "a number from 0 to 1")
        _check(self.eps is None or 0 < self.eps < math.inf, "eps", self.eps, "a positive number")
        _check(0 < self.tolerance < 1, "tolerance", self.tolerance, "a number between 0 and 1")
        _check(self.fit_rows > 0, "fit_rows", self.fit_rows, "1 or more")
        _check(self.max_sweeps > 0, "max_sweeps", self.max_sweeps, "1 or more")
        _check(self.clusters is None or self.clusters > 1, "clusters", self.clusters, "2 or more")
        _check(self.max_tokens > 0, "max_tokens", self.max_tokens, "1 or more")
        _check(self.gradient_dims > 0, "gradient_dims", self.gradient_dims, "1 or more")
        _check(0 <= self.threads <= _MOST_THREADS, "threads", self.threads, f"0 to {_MOST_THREADS}")
        weighed = self.pool_weights is None or self.loss_weights is None
        _check(weighed, "loss_weights", self.loss_weights, "it or pool_weights: both are weights of the pool")
        sweeps = self.backend != "reference" or not self.ray
        _check(sweeps, "backend", self.backend, "auto, cpu, gpu or ray: a cluster sweeps on its processors or its GPUs")
        _check(self.gpu_share is None or 0 < self.gpu_share <= 1, "gpu_share", self.gpu_share, "above 0, up to 1")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        _check(0.0 <= self.robust < _MOST_IGNORED, "robust", self.robust, "a share from 0, below 0.5")
        several = min(self.paths_per_task, default=1) >= 1 and len(self.paths_per_task) != 1
        _check(several, "paths_per_task", self.paths_per_task, "how many paths each of two or more tasks has")
        for method in self.methods:
            _check(method in METHODS, "methods", method, f"names among {', '.join(METHODS)}")
        _check(all(map(_is_mass, self.masses)), "masses", self.masses, "numbers from 0 to 1")
        _check(self.seeds > 0, "seeds", self.seeds, "1 or more")
        for name in ("warm_tokens", "tune_tokens", "pretrain_tokens"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        _check(self.context > 1, "context", self.context, "2 or more")
        rate = self.learning_rate
        _check(rate is None or 0 < rate < math.inf, "learning_rate", rate, "a positive number")
        parse_k(self.k)
        if self.tokens is not None:
            parse_count(self.tokens)
        for quota in self.at_most:
            parse_quota(quota)
        for name in ("max_jaccard", "max_cosine"):
            most = getattr(self, name)
            _check(most is None or 0 < most <= 1, name, most, "a number above 0, at most 1")
        _check(0 <= self.temperature < math.inf, "temperature", self.temperature, "0 or more")
        _check(self.threshold is None or math.isfinite(self.threshold), "threshold", self.threshold, "a score")
        if self.memory is not None:
            parse_size(self.memory)

    @property
    def relative_eps(self) -> float:
        """The eps in use: one step ranks more steadily when it is large, a whole mass is shared out by a small one."""
        return 0.5 * 0.2 ** max(0.0, 2.0 * self.mass - 1.0) if self.eps is None else self.eps

    @property
    def studies(self) -> tuple[str, ...]:
        """What is asked for about the selection, beside it."""
        return tuple(name for name in STUDIES if getattr(self, name))

    @property
    def weighs(self) -> bool:
        """Whether the weights of the target's examples are found by what k documents can do for them."""
        return self.robust > 0 or (bool(self.paths_per_task) and self.balance == "gap")

    @property
    def on_cluster(self) -> bool:
        """Whether the work goes to a Ray cluster."""
        return self.ray or self.backend == "ray"

    @property
    def sweeper(self) -> dict[str, Any]:
        """What `backends.choose` is told."""
        share = 1.0 if self.gpu_share is None else self.gpu_share
        return {"name": self.backend, "threads": self.threads, "ray": self.on_cluster, "gpu_share": share}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: object, where: str = "") -> Settings:
        """Make settings from what to_json wrote, or from loose values: one path counts as a list of one, a number as k.

        A wrong value and a name that is no setting are refused, with ``where`` (a file) named.
        """
        place = f"{where}: " if where else ""
        if not isinstance(values, dict):
            msg = f"{place}the settings are {values!r}: give names with values, {{...}} in JSON"
            raise UsageError(msg)
        values = grouped(values)
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = next((str(name) for name in values if name not in names), None)
        if unknown is not None:
            near = difflib.get_close_matches(unknown, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(names)}"
            msg = f"{place}{unknown!r} is no setting of this version: {hint}"
            raise UsageError(msg)
        try:
            return cls(**{name: _loose(name, value) for name, value in values.items()})
        except UsageError as error:
            msg = f"{place}{error}"
            raise UsageError(msg) from error

    def absolute(self) -> Settings:
        """Return the settings with absolute paths, so that a run can be taken up from any folder."""
        changed: dict[str, Any] = {name: tuple(map(_absolute, getattr(self, name))) for name in _PATHS}
        changed |= {name: path and _absolute(path) for name in _WEIGHTS if (path := getattr(self, name)) is not None}
        for name in _MODELS:
            path = getattr(self, name)
            if path not in {None, "default"} and os.path.isdir(path):  # noqa: PTH112 - as in _absolute
                changed[name] = _absolute(path)
        return dataclasses.replace(self, **changed)

    def of(self, *doors: str) -> dict[str, Any]:
        """Return the settings that one of the doors takes, but for those that cannot change a result."""
        values = self.to_json()
        wanted = [field.name for field in dataclasses.fields(self) if set(doors) & set(field.metadata["doors"])]
        values["backend"] = "cpu" if self.backend == "ray" else self.backend  # The same bits.
        return {name: values[name] for name in wanted if name not in WITHOUT_EFFECT}


def grouped(values: dict[str, Any]) -> dict[str, Any]:
    """Return loose values with the target's paths in one list, and how many of them each task has.

    [["a", "b"], ["c"]] are the paths of two tasks, ["a", "b", "c"] and [["a", "b", "c"]] those of one. Raises
    UsageError where texts and vectors are not of as many tasks.
    """
    found, counts = dict(values), []
    for name in filter(values.__contains__, _OF_TASKS):
        paths = values[name]
        if isinstance(paths, list | tuple) and any(isinstance(one, list | tuple) for one in paths):
            tasks = [one if isinstance(one, list | tuple) else [one] for one in paths]
            found[name] = [path for task in tasks for path in task]
            counts.append([len(task) for task in tasks])
        found.setdefault("paths_per_task", ())
    if counts and "paths_per_task" not in values:
        alike = len({len(one) for one in counts}) == 1
        _check(alike, "target_vectors", values.get("target_vectors"), "as many tasks as target has")
        found["paths_per_task"] = counts[0] if len(counts[0]) > 1 else ()
    return found


def parse_k(k: str) -> tuple[float, bool]:
    """Return (number, whether it is per cent) of a "1000" or a "5%". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", k.strip())
    number, percent = (float(match[1]), bool(match[2])) if match else (0.0, False)
    fits = 0 < number <= 100 if percent else number >= 1 and number.is_integer()  # noqa: PLR2004 - per cent
    _check(fits, "k", k, "a whole number from 1, or per cent like 5%")
    return number, percent


def parse_count(count: str) -> int:
    """Return the number that a "50M", "1.5 B" or "800000" is. Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMBT]?)", count.strip().upper())
    number = float(match[1]) * _THOUSANDS[match[2]] if match else 0.0
    _check(number >= 1, "tokens", count, "a number like 50M, 1.5B or 800000")
    return round(number)


def parse_quota(quota: str) -> tuple[str, float]:
    """Return (field, share from 0 to 1) of a "domain=20%". Raises UsageError."""
    match = re.fullmatch(r"(.+)=([0-9]+(?:\.[0-9]+)?)%", quota.strip())
    share = float(match[2]) / 100 if match else 0.0
    _check(0 < share <= 1, "at_most", quota, "a field and a share, like domain=20%")
    return match[1] if match else "", share


def parse_size(size: str) -> int:
    """Return the bytes of a "2GB", "1.5 GiB" or "800M". Raises UsageError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?I?)B?", size.strip().upper())
    number = float(match[1]) * _UNITS.get(match[2], 0) if match else 0.0
    _check(number >= 1, "memory", size, "a size like 2GB, 1.5GB or 800MB")
    return int(number)


def rows_for(k: str, n: int) -> int:
    """Return how many of n rows a k means. Raises UsageError when that is more than there are."""
    number, percent = parse_k(k)
    rows = max(1, round(n * number / 100)) if percent else int(number)
    if rows > n:
        msg = f"k is {k}, and the pool has {n} documents: choose at most {n}"
        raise UsageError(msg)
    return rows


def _is_mass(text: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is not None and float(text) <= 1


def _loose(name: str, value: Any) -> Any:  # noqa: ANN401 - a setting as people write it
    """Return the value of one setting in its own type, where it is plain what is meant."""
    if name == "masses":
        several = value if isinstance(value, list | tuple) else (value,)
        return tuple(str(one) if _is_number(one) else one for one in several)
    if name in (*_PATHS, "methods", "at_most"):
        if isinstance(value, str | os.PathLike):
            return (os.fspath(value),)
        if isinstance(value, list | tuple):
            return tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in value)
    if name == "paths_per_task" and isinstance(value, list | tuple):
        return tuple(value)
    if name in ("k", "tokens") and _is_number(value):
        return str(value)
    if name in (*_WEIGHTS, *_MODELS) and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _plain(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any type of setting
    """Return NumPy's numbers as Python's, and whole numbers as floats where those are wanted: 0 and 0.0 are one."""
    if isinstance(value, bool):
        return value
    wanted = typing.get_args(kind) or (kind,)
    if int in wanted and isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if float in wanted and isinstance(value, numbers.Real) else value


def _absolute(path: str) -> str:
    if is_url(path):
        return path
    path = path.removeprefix("file://")
    # Links are kept, and so are globs: they are what the user wrote.
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - pathlib's would follow links


def _check(fits: bool, name: str, value: object, allowed: str) -> None:  # noqa: FBT001 - an assertion with a message
    if not fits:
        msg = f"{name} is {value!r}: give {allowed}"
        raise UsageError(msg)


def _check_type(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 - a type hint
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        _check(value in options, name, value, "one of " + ", ".join(map(str, options)))
    elif origin is tuple:
        fits = isinstance(value, tuple) and all(type(v) is options[0] and v != "" for v in value)
        _check(fits, name, value, f"a list of {'texts' if options[0] is str else 'whole numbers'}")
    elif isinstance(kind, types.UnionType):
        if value is not None:
            _check_type(name, value, options[0])
    elif kind is float:
        _check(isinstance(value, int | float) and not isinstance(value, bool), name, value, "a number")
    else:
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        _check(fits, name, value, _WORDS[kind])
