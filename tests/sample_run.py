"""The findings of one made-up run, and its page as a reader sees it, for the tests of the report."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

from gapsel import report
from gapsel.findings import (
    Agreement,
    Certificate,
    Composition,
    Copies,
    DomainShare,
    ErrorBars,
    Evaluation,
    Example,
    Excluded,
    Findings,
    GroupShare,
    HeldOut,
    HeldOutTexts,
    Histogram,
    Interval,
    Judge,
    LossMean,
    MassPoint,
    MethodLoss,
    MethodResult,
    Mixture,
    QuotaDid,
    Recipe,
    RulesDid,
    Share,
    Step,
    TaskResult,
    TaskShare,
    Temperature,
    Threshold,
    TokensUsed,
)

VOID = {"meta", "br", "hr", "img", "input", "link"}
NAN, INF = math.nan, math.inf


def example(rank: int, text: str, label: str, nearest: str) -> Example:
    score = -0.4121 + 0.0000153 * rank
    return Example(
        f"{label}-{rank:05d}", "data/pool/part-03.jsonl", 41 * rank, rank, score, label, text, "emma-17", nearest
    )


def histogram() -> Histogram:
    edges = tuple(round(-0.42 + 0.012 * i, 3) for i in range(61))
    bell = [math.exp(-0.5 * ((i - 38) / 8.5) ** 2) + 0.004 * math.exp(-0.5 * ((i - 7) / 4) ** 2) for i in range(60)]
    counts = tuple(round(47_000 * height) for height in bell)
    return Histogram(
        edges, counts, tuple(count if i < 13 else count // 3 if i == 13 else 0 for i, count in enumerate(counts))
    )


def steps() -> tuple[Step, ...]:
    found = []
    for rows, first, last in ((1_200, 0.9, 0.11), (4_800, 0.4, 0.055), (19_200, 0.13, 0.024)):
        found += [
            Step("sample", rows, 0.09, 0.0, first * (last / first) ** (i / 4), 0.02 * rows / 1e3) for i in range(5)
        ]
    found += [Step("pool", 1_000_000, 0.0475, 0.0, error, 21.4) for error in (0.031, 0.0021)]
    found += [Step("shortlist", 104_000, 0.0475, 0.5, 0.62 * 0.47**i, 2.3) for i in range(9)]
    found += [Step("pool", 1_000_000, 0.0475, 0.5, error, 21.6) for error in (0.014, 0.0012, 0.00031)]
    return tuple(found)


FICTION = (
    "She was then, to her own great astonishment, obliged to own that the visit had given her pleasure; and though "
    "nothing could be more unlike what she had expected, the evening closed upon a party of whom every one was "
    "persuaded that the others had been the most entertained."
)
NEAREST = "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition."
SCRIPTURE = "But they shook off the dust of their feet against them, and came unto Iconium."


def method(  # noqa: PLR0917 - a row of a table
    name: str,
    mixture: tuple[float, float],
    alone: tuple[float, float],
    overlap: float,
    precision: float,
    coverage: float,
) -> MethodResult:
    mix = {"novels": precision, "web": 1 - precision}
    return MethodResult(
        name, Interval(*mixture), Interval(*alone), overlap, precision, coverage, documents=10_000, tokens=1_204_331,
        seconds=4.2, mix=mix, tasks=(),
    )  # fmt: skip


def at(mass: float, mixture: tuple[float, float], alone: tuple[float, float], overlap: float) -> MassPoint:
    found = method(f"mass {mass:g}", mixture, alone, overlap, 0.94 - 0.1 * mass, 0.5 + 0.4 * mass)
    return MassPoint(**{field.name: getattr(found, field.name) for field in fields(found)}, mass=mass)


FINDINGS = Findings(
    version="0.1.0",
    pool=("data/pool/part-01.jsonl", "data/pool/part-02.jsonl", "data/pool/part-03.jsonl"),
    target=("data/target_emma.jsonl.gz",),
    base=(),
    avoid=(),
    embedder="sentence-transformers/all-MiniLM-L6-v2 (mean pooling, 256 tokens)",
    n=1_000_000,
    m=300,
    k=10_000,
    rejected_rows=132,
    mass=0.5,
    cost="sqeuclidean",
    eps=0.0475,
    eps_of_row_std=0.5,
    eps_of_mean=0.0312,
    perplexity=41.3,
    converged=True,
    marginal_error=0.00031,
    tolerance=0.001,
    full_sweeps=5,
    fitted_rows=1_000_000,
    sampling_error=0.0,
    pool_distance=Interval(1.302, 1.321),
    avoided=None,
    tasks=(),
    ignored=(),
    methods=(
        method("random", (1.301, 1.323), (1.306, 1.327), 0.0101, 0.172, 0.08),
        method("nearest neighbours", (1.041, 1.049), (0.931, 0.946), 0.583, 0.912, 0.61),
        method("round-robin neighbours", (1.011, 1.019), (0.741, 0.755), 0.741, 0.954, 0.93),
        method("gapsel", (0.974, 0.982), (0.802, 0.818), 1.0, 0.981, 0.84),
    ),
    certificate=Certificate(1.1874, 0.9021, 0.0037, 1.28, 0.00044),
    rules=RulesDid(),
    mass_path=(
        at(0, (1.302, 1.321), (0.951, 0.966), 0.57),
        at(0.5, (0.974, 0.982), (0.802, 0.818), 0.991),
        at(1, (0.737, 0.749), (0.737, 0.749), 0.744),
    ),
    error_bars=ErrorBars(
        splits=4, target=Agreement(0.241, 0.55), pool=Agreement(0.981, 0.99), steady=True, inclusion=(1.0, 0.5, 0.0)
    ),
    histogram=histogram(),
    cut=-0.2591,
    compositions=(
        Composition(
            "source",
            (
                Share("novels.jsonl.gz", 0.214, 0.9321, None),
                Share("bible.jsonl.gz", 0.198, 0.0508, None),
                Share("metamath.jsonl", 0.402, 0.0004, None),
                Share("web/crawl-2024-18/en-head-00017-of-00120.parquet", 0.186, 0.0167, None),
            ),
        ),
        Composition(
            "domain",
            (
                Share("fiction", 0.2144, 0.931, 0.8125),
                Share("scripture", 0.1981, 0.048, 0.175),
                *(Share(f"web topic {i}", 0.0391 - 0.001 * i, 0.0052 - 0.0003 * i, 0.0) for i in range(14)),
                Share("mathematics", 0.1310, 0.00005, 0.0125),
            ),
        ),
    ),
    chosen=(
        example(1, FICTION, "fiction", NEAREST),
        example(
            4_127,
            "I cannot make speeches. " * 20,
            "fiction",
            "If I loved you less, I might be able to talk about it more.",
        ),
        example(10_000, SCRIPTURE, "scripture", NEAREST),
    ),
    barely_rejected=(example(10_001, "The visit was returned in due form. " * 3, "fiction", NEAREST),),
    steps=steps(),
    seconds={"read": 31.2, "embed": 3_314.0, "solve": 128.3, "select": 4.41, "compare": 96.0, "write": 0.8},
    peak_memory_bytes=3_412_000_000,
)


RULES = RulesDid(
    tokens=TokensUsed(budget=5_000_000, used=4_998_211, too_large=14, without=3, cut=0, max_tokens=256),
    exclude=(Excluded("lists/seen.txt", entries=1_200, matched=1_187, documents=1_187),),
    held_out=(HeldOut("tests/held-out.jsonl", held_out=164, documents=1),),
    threshold=Threshold(score=-0.1, documents=61_204),
    at_most=(
        QuotaDid(
            "domain", share=0.5, groups=4, without=1_041, passed_over=2_310, full=1, names=("fiction",),
            largest=(
                GroupShare("fiction", 0.49999, 0.2144, full=True),
                GroupShare("scripture", 0.378, 0.1981, full=False),
                GroupShare("web", 0.1217, 0.5865, full=False),
            ),
        ),
        QuotaDid(
            "file", share=0.9, groups=3, without=0, passed_over=0, full=0, names=(),
            largest=(GroupShare("novels.jsonl.gz", 0.62, 0.214, full=False),),
        ),
    ),
    copies=Copies(documents=77),
    temperature=Temperature(in_eps=0.1, in_cost=0.00475),
)  # fmt: skip


def task(name: str, weight: float, closed: float | None, pool: tuple[float, float]) -> TaskShare:
    return TaskShare(name, 150, weight, weight + 0.02, closed, Interval(*pool))


TASKS = (task("emma", 0.55, 0.71, (1.31, 1.33)), task("acts", 0.43, 0.69, (1.24, 1.26)))
TO_EACH = (
    TaskResult(Interval(1.02, 1.03), Interval(0.88, 0.89), 0.61, 0.83),
    TaskResult(Interval(0.95, 0.97), Interval(0.79, 0.81), None, 0.85),
)


def with_rules(rules: RulesDid) -> Findings:
    return replace(FINDINGS, rules=rules)


def with_tasks(tasks: tuple[TaskShare, ...] = TASKS) -> Findings:
    ours = replace(FINDINGS.methods[-1], tasks=TO_EACH)
    return replace(FINDINGS, tasks=tasks, methods=(*FINDINGS.methods[:-1], ours))


MIXTURE = Mixture(
    field="domain",
    domains=(
        DomainShare("fiction", 214_400, 0.2144, 0.712, 0.0002, 7_120),
        DomainShare("scripture", 198_100, 0.1981, 0.1981, -0.0871, 1_981),
        DomainShare("web", 456_500, 0.4565, 0.0899, 0.00003, 899),
        DomainShare("mathematics", 131_000, 0.131, 0.0, 0.4127, 0),
    ),
    natural=Interval(1.302, 1.321),
    even=Interval(1.341, 1.352),
    mixture=Interval(1.011, 1.024),
    chosen=Interval(1.004, 1.019),
    certificate=Certificate(1.1874, 0.9611, 0.0009, 0.41, 0.0001),
    eps=0.0475,
    marginal_error=0.0002,
    converged=True,
    full_sweeps=21,
    k=10_000,
    file="mixture/selected.jsonl",
)


def differing(mean: float, half: float) -> tuple[LossMean, str]:
    """Return a difference and what its interval says."""
    found = LossMean(mean, mean - half, mean + half)
    return found, "better" if found.upper < 0 else "worse" if found.lower > 0 else "not told apart"


def judged(name: str, rank: int | None, tuned: float, against: tuple[float, float] | None) -> MethodLoss:
    """Return a method by its difference from random, a mean and half its interval; the run's own is at -0.034."""
    difference, verdict = differing(*against) if against else (None, None)
    own = name == "gapsel, mass 0.5"
    beside, beside_verdict = (None, None) if own else differing((against or (0.0,))[0] + 0.034, 0.008)
    after, before = (LossMean(loss, loss - 0.011, loss + 0.011) for loss in (tuned, tuned + 0.2))
    precision = None if rank is None else 0.9
    return MethodLoss(name, rank, before, after, difference, verdict, beside, beside_verdict, precision)


EVALUATION = Evaluation(
    k=10_000,
    mass=0.5,
    seeds=(0, 1, 2, 3, 4),
    recipe=Recipe(warm_tokens=65_536, tune_tokens=16_384),
    lm=Judge("a small GPT, trained on 1,500,000 tokens of the pool's text", 1_204_352, 4.1203),
    held_out=HeldOutTexts(documents=60, tokens=5_120, bytes=19_204, in_target=0),
    methods=(
        judged("no warm-up", None, 3.652, (0.071, 0.01)),
        judged("random", 4, 3.581, None),
        judged("nearest neighbours", 3, 3.552, (-0.029, 0.012)),
        judged("round-robin neighbours", 1, 3.536, (-0.045, 0.009)),
        judged("gapsel, mass 0.5", 2, 3.547, (-0.034, 0.01)),
    ),
)
WHOLE = replace(with_tasks(), rules=RULES)


class Balance(HTMLParser):
    """Collects what is wrong with the nesting of tags, every start tag, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.wrong == []
    assert parser.open == []
    return parser


def text_of(found: Findings, mixture: Mixture | None = None, evaluation: Evaluation | None = None) -> str:
    return re.sub(r"[ \n]+", " ", read(report.render(found, mixture, evaluation)).text)


def at_mass(mass: float) -> Findings:
    """Return the findings at mass 0, where every mixture is the pool, or at mass 1, where it is the chosen alone."""
    methods = (replace(m, mixture=m.alone if mass == 1 else FINDINGS.pool_distance) for m in FINDINGS.methods)
    return replace(FINDINGS, mass=mass, methods=tuple(methods))


def with_distance(*, mixture: Interval | None = None, alone: Interval | None = None) -> Findings:
    """Return the findings with other intervals for gapsel's own choice."""
    ours = FINDINGS.methods[-1]
    ours = replace(ours, mixture=mixture or ours.mixture, alone=alone or ours.alone)
    return replace(FINDINGS, methods=(*FINDINGS.methods[:-1], ours))
