"""The settings: flat and frozen. Each field has its default, its help, the doors that take it, and what it may be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from gapsel.config.allowed import (
    ABOVE_0_TO_1,
    FINITE,
    FROM_0_TO_1,
    NOT_NEGATIVE,
    POSITIVE,
    WITHIN_0_AND_1,
    Allowed,
    at_least,
    up_to,
)
from gapsel.config.checks import check_settings
from gapsel.config.doors import ALL, EMBED, EVALUATE, FIT, METHODS, SELECT, SOLVE, STEPS, STUDIES, WITHOUT_EFFECT
from gapsel.config.effect import in_effect
from gapsel.config.loose import absolute_paths, readable
from gapsel.errors import UsageError
from gapsel.records import CostKind  # noqa: TC001 - get_type_hints reads it

_COUNT = at_least(1)
# More would be a slip of the hand that takes the machine down with it.
_THREADS = up_to(1024)
# Of a target of which most is noise nothing tells which part that is.
_MINOR = Allowed("a share from 0, below 0.5", lambda value: 0 <= value < 0.5)  # noqa: PLR2004 - half


def _field(default: Any, text: str, doors: tuple[str, ...], **more: Any) -> Any:  # noqa: ANN401 - any type of setting
    return dataclasses.field(default=default, metadata={"help": text, "doors": doors, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a run depends on. Raises UsageError, naming the setting, the value and what it may be."""

    pool: tuple[str, ...] = _field((), "candidate documents: files, folders, globs or URLs", EMBED, metavar="PATH")
    target: tuple[str, ...] = _field(
        (), "examples of the task: files, folders, globs or URLs; given again, of another task", EMBED, metavar="PATH",
        repeats=True,
    )  # fmt: skip
    pool_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the pool (.npy, .parquet, .jsonl) instead of embedding it", EMBED, metavar="PATH"
    )
    target_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the target (.npy, .parquet, .jsonl) instead of embedding it", EMBED, metavar="PATH",
        repeats=True,
    )  # fmt: skip
    base: tuple[str, ...] = _field(
        (), "a sample of what the model was trained on, or has already; without one the pool stands for that", EMBED,
        metavar="PATH",
    )  # fmt: skip
    base_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the base (.npy, .parquet, .jsonl) instead of embedding it", EMBED, metavar="PATH"
    )
    avoid: tuple[str, ...] = _field(
        (), "examples of what is not wanted, like toxic text: documents near these are chosen less", EMBED,
        metavar="PATH",
    )  # fmt: skip
    avoid_vectors: tuple[str, ...] = _field(
        (), "ready-made vectors of the examples to avoid (.npy, .parquet, .jsonl) instead of embedding them", EMBED,
        metavar="PATH",
    )  # fmt: skip
    avoid_strength: float = _field(
        1.0, "how much the distance to what is to be avoided counts, that to the target being 1", FIT, allowed=POSITIVE
    )
    paths_per_task: tuple[int, ...] = _field(
        (), "how many of the target's paths each of several tasks has, as --target given again says it",
        ("run", "embed", "fit", "mix"), metavar="N",
    )  # fmt: skip
    balance: Literal["gap", "tasks", "examples"] = _field(
        "gap",
        "what several tasks share alike: gap, each closes as much of what it could close by itself; tasks, the same "
        "weight; examples, none of it, each weighs as many examples as it has",
        SOLVE,
    )
    robust: float = _field(
        0.0,
        "share of the target, below 0.5, that may be ignored: the examples that nothing in the pool serves",
        SOLVE,
        allowed=_MINOR,
    )
    text_field: str = _field(
        "text", "field that holds the text, or the messages of a chat; several, like question,answer, are joined",
        EMBED,
    )  # fmt: skip
    id_field: str = _field("id", "field that holds the id", EMBED)
    vector_field: str | None = _field(
        None,
        "field that holds the vectors of .parquet and .jsonl (default: the only one with lists of numbers)",
        EMBED,
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
    model: str = _field(
        "default",
        "encoder, or the language model for --features: a local folder or a hub name (default: all-MiniLM-L6-v2)",
        EMBED,
    )
    features: Literal["text", "hidden", "gradient"] = _field(
        "text", "vectors of a sentence encoder (text), or of your own language model: its hidden states or gradients",
        EMBED,
    )  # fmt: skip
    gradient_dims: int = _field(1024, "dimensions that gradients are projected to", EMBED, allowed=_COUNT)
    pooling: Literal["mean", "cls", "last"] = _field("mean", "how token vectors become one", EMBED)
    max_tokens: int = _field(256, "documents are cut after so many tokens", EMBED, allowed=_COUNT)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _field("auto", "precision of the encoder", EMBED)
    device: str = _field("auto", "where the encoder runs: auto, cpu, cuda, cuda:1 ...", (*EMBED, "evaluate"))
    cost: CostKind = _field("sqeuclidean", "ground cost", SOLVE)  # noqa: RUF009 - as all the others
    normalize: bool = _field(True, "scale vectors to unit norm", SOLVE)  # noqa: FBT003 - a field's default
    pool_weights: str | None = _field(
        None, "weights of the pool's rows (.npy), default all equal", SOLVE, metavar="PATH"
    )
    loss_weights: str | None = _field(
        None, "language model by whose loss the pool is weighted, exp(-loss): a local folder or a hub name", SOLVE
    )
    weight_field: str | None = _field(
        None, "field with the weight of each document of the pool, a number that is not negative", SOLVE
    )
    target_weights: str | None = _field(
        None, "weights of the target's rows (.npy), default all equal", SOLVE, metavar="PATH"
    )
    base_weights: str | None = _field(None, "weights of the base's rows (.npy), default all equal", FIT, metavar="PATH")
    k: str = _field(
        "1%",
        "how many documents to choose: a number, or per cent of the pool",
        (*SELECT, "mix"),
        short="-k",
        metavar="K",
    )
    tokens: str | None = _field(
        None, "choose so many tokens, like 50M, instead of -k documents; a document weighs as many as it has", SELECT,
        metavar="COUNT",
    )  # fmt: skip
    token_field: str | None = _field(
        None,
        "field with a document's number of tokens (default: as its encoder counted, at most --max-tokens)",
        SELECT,
    )
    at_most: tuple[str, ...] = _field(
        (), "the largest share of the choice that one value of a field may be, like domain=20%; file=20% for files",
        SELECT, metavar="FIELD=SHARE",
    )  # fmt: skip
    threshold: float | None = _field(
        None,
        "choose only documents with a score of at most this, even if they are fewer",
        ("run", "select"),
        allowed=FINITE,
    )
    exclude: tuple[str, ...] = _field(
        (), "documents that must not be chosen: a .txt of ids, one a line, or files of documents with the same text",
        (*SELECT, "mix"), metavar="PATH",
    )  # fmt: skip
    held_out: tuple[str, ...] = _field(
        (), "documents that the model is to be tested on: what shares 13 words in a row with them is not chosen",
        (*SELECT, "mix"), metavar="PATH",
    )  # fmt: skip
    max_jaccard: float | None = _field(
        None, "choose nothing whose text is as much like a better chosen one: 0.7, say, of their five-word runs",
        ("run", "select"), allowed=ABOVE_0_TO_1
    )  # fmt: skip
    max_cosine: float | None = _field(
        None, "choose nothing whose vector is as much like that of a better chosen one: a cosine, 0.95, say",
        ("run", "select"), allowed=ABOVE_0_TO_1
    )  # fmt: skip
    temperature: float = _field(
        0.0, "chance in the choice, in units of eps: documents are drawn by exp(-f / (temperature eps))",
        ("run", "select"), allowed=NOT_NEGATIVE
    )  # fmt: skip
    mass: float = _field(
        0.5,
        "share of the training distribution that the selection will make up; 0 is GOT-D's single step",
        FIT,
        allowed=FROM_0_TO_1,
    )
    eps: float | None = _field(
        None,
        "entropic regularisation, in standard deviations of a document's costs (default: 0.5, falling to 0.1 from "
        "mass 0.5 to 1)",
        SOLVE,
        allowed=POSITIVE,
    )
    tolerance: float = _field(1e-3, "marginal error at which the solver stops", SOLVE, allowed=WITHIN_0_AND_1)
    fit_rows: int = _field(
        2_000_000,
        "rows that the solver reads; of a larger pool it takes a random part, and scores all",
        FIT,
        allowed=_COUNT,
    )
    max_sweeps: int = _field(60, "sweeps of the whole pool after which the solver gives up", SOLVE, allowed=_COUNT)
    seed: int = _field(0, "seed of all sampling", SOLVE, allowed=at_least(0))
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
        allowed=at_least(2),
    )
    choose: bool = _field(
        False, "also choose k documents, of each domain its share", ("mix",)  # noqa: FBT003 - a default
    )  # fmt: skip
    backend: Literal["auto", "cpu", "gpu", "ray", "reference"] = _field(
        "auto", "what sweeps the pool", (*FIT, "score", "select", "mix")
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
        allowed=ABOVE_0_TO_1,
    )
    test: tuple[str, ...] = _field(
        (), "held-out examples of the task, none of them in the target, by which the selections are judged", EVALUATE,
        metavar="PATH",
    )  # fmt: skip
    lm: str | None = _field(
        None,
        "causal language model that is trained: a local folder or a hub name (default: a small GPT, trained before on "
        "random text of the pool)",
        EVALUATE,
    )
    masses: tuple[str, ...] = _field((), "also choose at these masses", EVALUATE, metavar="X")
    seeds: int = _field(5, "trainings of each method", EVALUATE, allowed=_COUNT)
    warm_tokens: int = _field(65_536, "tokens of the warm-up on a selection", EVALUATE, allowed=_COUNT)
    tune_tokens: int = _field(16_384, "tokens of the fine-tuning on the target", EVALUATE, allowed=_COUNT)
    pretrain_tokens: int = _field(
        1_500_000, "tokens that the small GPT is trained on at first", EVALUATE, allowed=_COUNT
    )
    context: int = _field(128, "tokens that the model reads at once", EVALUATE, allowed=at_least(2))
    learning_rate: float | None = _field(
        None, "highest learning rate (default: by the number of parameters)", EVALUATE, allowed=POSITIVE
    )
    threads: int = _field(0, "processor threads; 0: all that the process may use", ALL, allowed=_THREADS)
    memory: str | None = _field(
        None,
        "memory that the run may hold beyond mapped files, like 2GB (default: half of what the machine has)",
        ("run", *STEPS, "mix"),
        metavar="SIZE",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def changed(self) -> str:
        """The settings that are not the default, as they are given in Python."""
        own = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
        return ", ".join(f"{name}={value!r}" for name, value, default in own if value != default)

    def __repr__(self) -> str:
        """Say what is not the default."""
        return f"Settings({self.changed})"

    @property
    def relative_eps(self) -> float:
        """The eps in use: one step ranks more steadily when it is large, a whole mass is shared out by a small one."""
        return 0.5 * 0.2 ** max(0.0, 2.0 * self.mass - 1.0) if self.eps is None else self.eps

    @property
    def of_avoided(self) -> tuple[float, float]:
        """The eps by which rows are priced, that of a mass of 0 since it is one step, and the strength of it."""
        return dataclasses.replace(self, mass=0.0).relative_eps, self.avoid_strength

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
        try:
            return cls(**readable(values, [field.name for field in dataclasses.fields(cls)]))
        except UsageError as error:
            if not where:
                raise
            msg = f"{where}: {error}"
            raise UsageError(msg) from error

    def absolute(self) -> Settings:
        """Return the settings with absolute paths, so that a run can be taken up from any folder."""
        return dataclasses.replace(self, **absolute_paths(self))

    def of(self, *doors: str) -> dict[str, Any]:
        """Return what one of the doors takes, see in_effect, but for those settings that cannot change a result."""
        values = in_effect(self)
        wanted = [field.name for field in dataclasses.fields(self) if set(doors) & set(field.metadata["doors"])]
        return {name: values[name] for name in wanted if name not in WITHOUT_EFFECT}
