"""Budgets, quotas and lists from the command line to the selection: what is chosen, what is said, what is refused.

The documents have ready-made vectors beside them, so that nothing is embedded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import gapsel
from gapsel import pipeline
from gapsel.cli import main
from gapsel.errors import DataError, UsageError
from gapsel.pipeline.studies.choices import at_mass

if TYPE_CHECKING:
    from pathlib import Path

N, M, D, K = 600, 12, 8, 60
DOMAINS = ("a", "b", "c")
BUDGET = {"tokens": "1K", "token_field": "count"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool in two files; documents of domain a lie nearest to the target, one in ten has no domain."""
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    x = rng.standard_normal((N, D)) + 2.0 * np.eye(D)[labels]
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "y.npy", (rng.standard_normal((M, D)) + 2.0 * np.eye(D)[0]).astype(np.float32))
    rows = [
        {"id": f"d{i}", "text": f"document number {i}", "count": int(rng.integers(5, 60)), "domain": DOMAINS[labels[i]]}
        for i in range(N)
    ]
    for row in rows[::10]:
        row["domain"] = None
    for name, part in (("one", rows[:400]), ("two", rows[400:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "target.jsonl").write_text("".join(json.dumps({"text": f"example {i}"}) + "\n" for i in range(M)))
    return folder


def settings(home: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "pool": [home / "one.jsonl", home / "two.jsonl"],
        "target": home / "target.jsonl",
        "pool_vectors": home / "x.npy",
        "target_vectors": home / "y.npy",
        "k": K,
        "backend": "cpu",
        "methods": ["random"],
        **more,
    }


def documents(home: Path) -> list[dict[str, Any]]:
    lines = (home / "one.jsonl").read_text() + (home / "two.jsonl").read_text()
    return [json.loads(line) for line in lines.splitlines()]


def said(folder: Path) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads((folder / "selection.json").read_text())["rules"]
    return rules


def by_score(folder: Path) -> list[int]:
    scores = np.concatenate([pq.read_table(file)["score"].to_numpy() for file in sorted(folder.glob("scores/*"))])
    return list(map(int, np.argsort(scores, kind="stable")))


@pytest.mark.parametrize("mass", [0.0, 0.5])
def test_tokens_are_a_budget(home: Path, tmp_path: Path, mass: float) -> None:
    found = gapsel.run(tmp_path / "run", **settings(home, **BUDGET, mass=mass))
    counts = np.array([row["count"] for row in documents(home)])
    used = int(counts[found.rows].sum())
    assert 990 <= used <= 1000
    assert said(tmp_path / "run")["tokens"]["used"] == used
    order = by_score(tmp_path / "run")
    passed = [row for row in order[: order.index(int(found.rows[-1]))] if row not in found.rows]
    assert all(counts[row] > 1000 - used for row in passed)
    assert 0 <= found.certificate.percent < (20 if mass else 1)


def test_each_domain_is_at_most_its_share(home: Path, tmp_path: Path) -> None:
    rules = {"at_most": ["domain=40%", "file=60%"], "mass": 0.0}
    found = gapsel.run(tmp_path / "run", **settings(home, **rules))
    rows = [documents(home)[row] for row in found.rows]
    counts = {name: sum(row["domain"] == name for row in rows) for name in (*DOMAINS, None)}
    assert max(counts.values()) == 24 == counts["a"]
    assert (found.rows < 400).sum() <= 36
    assert len(found.rows) == K
    domain, file = said(tmp_path / "run")["at_most"]
    assert domain["full"] >= 1
    assert "a" in domain["names"]
    assert (domain["groups"], domain["without"], file["groups"]) == (4, N // 10, 2)
    # Whatever comes before the last in the order of scores and is not chosen was over a quota.
    order = by_score(tmp_path / "run")
    passed = order.index(int(found.rows[-1])) + 1 - K
    assert passed == domain["passed_over"] + file["passed_over"] > 0


def compared(folder: Path, *more: str) -> list[dict[str, Any]]:
    """All simple methods and gapsel's own choice, as the report has them."""
    assert main(["compare", "-o", str(folder), "--quiet", *more]) == 0
    methods: list[dict[str, Any]] = json.loads((folder / "findings.json").read_text())["methods"]
    return methods


def test_simple_methods_choose_under_the_same_rules(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, methods = tmp_path / "run", ["random", "nearest", "roundrobin", "centroid", "kde"]
    (tmp_path / "ids.txt").write_text("".join(f"{row['id']}\n" for row in documents(home) if row["domain"] == "b"))
    rules = {"at_most": "domain=40%", "exclude": tmp_path / "ids.txt", "label_field": "domain"}
    gapsel.run(out, **settings(home, **rules))
    with pipeline.reopen(out, {}, quiet=True) as run:
        at_most_24 = [documents(home)[row]["domain"] for row in at_mass(run, 1.0)]
    assert len(at_most_24) == K
    assert max(at_most_24.count(name) for name in (*DOMAINS, None)) == 24
    assert "b" not in at_most_24
    for one in compared(out, "--methods", *methods):
        assert one["documents"] == K
        assert max(one["mix"].values()) <= 0.4, one["name"]
        assert "b" not in one["mix"], one["name"]
    assert "60 documents each" in capsys.readouterr().out

    assert main(["select", "-o", str(out), "--quiet", "--tokens=1K", "--token-field=count"]) == 0
    found = compared(out, "--methods", *methods)
    assert all(950 <= one["tokens"] <= 1000 for one in found)
    assert len({one["documents"] for one in found}) > 1
    assert "documents, under the same rules" in capsys.readouterr().out


def test_a_threshold_bars_rows_for_simple_methods_too(home: Path, tmp_path: Path) -> None:
    first = gapsel.run(tmp_path / "run", **settings(home, mass=0.0))
    cut = float(np.sort(first.scores)[29])
    assert main(["select", "-o", str(tmp_path / "run"), "--quiet", f"--threshold={cut}"]) == 0
    found = compared(tmp_path / "run", "--methods", "random", "roundrobin", "kde")
    assert [(one["documents"], one["overlap"]) for one in found] == 4 * [(30, 1.0)]


def test_lists_leave_out_documents_by_id_and_by_text(home: Path, tmp_path: Path) -> None:
    first = gapsel.run(tmp_path / "first", **settings(home))
    (tmp_path / "ids.txt").write_text("\n".join([*first.ids[:10], "nobody"]))
    texts = [{"text": documents(home)[row]["text"]} for row in first.rows[10:30]]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*texts, {"text": "new"}]))
    lists = [tmp_path / "ids.txt", tmp_path / "old.jsonl"]
    found = gapsel.run(tmp_path / "run", **settings(home, exclude=lists))
    assert not set(first.rows[:30].tolist()) & set(found.rows.tolist())
    assert len(found.rows) == K
    assert set(first.rows[30:].tolist()) <= set(found.rows.tolist())
    told = [
        {name: one[name] for name in ("entries", "matched", "documents")} for one in said(tmp_path / "run")["exclude"]
    ]
    assert told == [{"entries": 11, "matched": 10, "documents": 10}, {"entries": 21, "matched": 20, "documents": 20}]


def test_a_changed_rule_redoes_the_choice_and_no_more(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    first = gapsel.run(out, **settings(home, mass=0.0))
    cut = float(np.sort(first.scores)[19])
    capsys.readouterr()
    (tmp_path / "ids.txt").write_text(first.ids[0])
    rules = ["--threshold", str(cut), "--exclude", str(tmp_path / "ids.txt")]
    assert main(["select", "-o", str(out), *rules]) == 0
    told = capsys.readouterr()
    assert "Chose 19 documents" in told.out
    assert "exclude ids.txt: 1 of its 1 entries are in the pool, 1 document left out" in told.out
    assert f"threshold {cut:g}: 19 documents within it, 19 chosen" in told.out
    assert "fit: done before" in told.err
    assert json.loads((out / "selection.json").read_text())["rows"] == first.rows[1:20].tolist()
    (tmp_path / "ids.txt").write_text(first.ids[1])
    assert main(["select", "-o", str(out)]) == 0
    assert json.loads((out / "selection.json").read_text())["rows"] == first.rows[np.r_[0, 2:20]].tolist()


def test_what_is_held_out_and_near_copies_are_not_chosen(home: Path, tmp_path: Path) -> None:
    first = gapsel.run(tmp_path / "first", **settings(home))
    rows = documents(home)
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": rows[first.rows[0]]["text"].upper()}) + "\n")
    # Five-word runs of three words are the three of them: what differs in its number alone is not alike.
    wanted = {"held_out": tmp_path / "test.jsonl", "max_jaccard": 0.5, "max_cosine": 0.98}
    found = gapsel.run(tmp_path / "run", **settings(home, **wanted))
    x = np.load(home / "x.npy")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    likeness = x[found.rows] @ x[found.rows].T
    assert first.rows[0] not in found.rows
    assert likeness[np.triu_indices(K, 1)].max() < 0.98
    assert len(found.rows) == K
    told = said(tmp_path / "run")
    assert told["held_out"][0]["documents"] == told["held_out"][0]["held_out"] == 1
    order = [row for row in by_score(tmp_path / "run") if row != first.rows[0]]
    assert told["copies"]["documents"] == order.index(int(found.rows[-1])) + 1 - K


def test_chance_draws_others_and_ranks_them_by_their_scores(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = gapsel.run(out, **settings(home, mass=0.0))
    found = gapsel.run(tmp_path / "drawn", **settings(home, mass=0.0, temperature=1.0))
    assert K / 10 < len(set(first.rows.tolist()) & set(found.rows.tolist())) < K
    assert (np.diff(found.scores) >= 0).all()
    assert main(["select", "-o", str(out), "--temperature", "1.0", "--quiet"]) == 0
    assert json.loads((out / "selection.json").read_text())["rows"] == found.rows.tolist()


def test_a_fit_knows_what_cannot_be_chosen(home: Path, tmp_path: Path) -> None:
    """Without the best half of the choice, the mixture is solved for with the rest, and certified."""
    first = gapsel.run(tmp_path / "first", **settings(home, mass=1.0))
    (tmp_path / "ids.txt").write_text("\n".join(first.ids[: K // 2]))
    found = gapsel.run(tmp_path / "run", **settings(home, mass=1.0, exclude=[tmp_path / "ids.txt"]))
    assert found.converged
    assert found.certificate.percent < 10
    blind = gapsel.run(tmp_path / "first", **settings(home, mass=1.0))
    assert found.certificate.after > blind.certificate.after


def test_vectors_alone_are_excluded_by_id_and_chosen_by_file(home: Path, tmp_path: Path) -> None:
    vectors = {name: value for name, value in settings(home).items() if name not in {"pool", "target"}}
    first = gapsel.run(tmp_path / "first", **vectors)
    found = gapsel.run(tmp_path / "run", **vectors, exclude=first.file)
    assert not set(first.rows.tolist()) & set(found.rows.tolist())
    assert said(tmp_path / "run")["exclude"][0]["matched"] == K
    with pytest.raises(UsageError, match="held_out compares texts, and the pool has vectors alone"):
        gapsel.run(tmp_path / "run2", **vectors, held_out=first.file)
    with pytest.raises(UsageError, match=r"max_jaccard compares texts, .* or go by vectors"):
        gapsel.run(tmp_path / "run2", **vectors, max_jaccard=0.5)
    with pytest.raises(UsageError, match="'file', each may be at most 30 documents, and that is 30 of the 60"):
        gapsel.run(tmp_path / "run2", **vectors, at_most="file=50%")


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"at_most": "domain=10%"}, UsageError, "domain=10% cannot be met: the pool has 4 groups"),
        ({"at_most": "topic=10%"}, DataError, "no field 'topic'; its fields are 'id', 'text'.*at_most, --at-most"),
        ({"at_most": "domain"}, UsageError, "at_most is 'domain': give a field and a share"),
        ({"tokens": "50M"}, UsageError, "nobody has counted those of ready-made vectors: name the field"),
        ({"tokens": "3", "token_field": "count"}, UsageError, "3 tokens, and the shortest document has 5"),
        ({"tokens": "1M", "token_field": "count"}, UsageError, "1,000,000 tokens, and the documents that may be"),
        ({"tokens": "many"}, UsageError, "tokens is 'many': give a number like 50M"),
        ({"tokens": "1K", "token_field": "domain"}, DataError, "document 1 of the pool: its 'domain' is"),
        (
            {"threshold": -9.0, "mass": 0.0},
            UsageError,
            "threshold is -9.0: nothing that may be chosen has such a score",
        ),
        ({"held_out": "nowhere.jsonl"}, DataError, "nowhere.jsonl"),
        ({"exclude": "nowhere.txt"}, DataError, "nowhere.txt"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(
    home: Path, tmp_path: Path, rules: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gapsel.run(tmp_path / "run", **settings(home, **rules))
