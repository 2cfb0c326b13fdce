"""Which features find what: text, hidden and gradient vectors of one pool, and pools weighted by a model's loss.

Documents of the demo, spread evenly over its pool; the targets are its three topics, each alone and all together. Of k
chosen, how many are of the target's topic (precision), and with all three, how far the shares of the topics are from
the target's. Documents a second are those of one core's processor time, since other work may share the machine; a model
is timed after its vector of a document alone agrees with the one it has among others.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapsel import Selector, corpus, embed
from gapsel.pipeline.vectors.moments import SAMPLED

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEMO = Path(__file__).resolve().parent.parent / "examples" / "demo"
LEAST_COSINE = 0.98
TOPICS = ("biology", "scripture", "sqlite-docs")


def read(name: str, count: int) -> tuple[list[str], list[str]]:
    """Return texts and topics of some documents spread evenly over a file of the demo."""
    path = str(DEMO / name)
    texts = [text for batch in corpus.read([path]) for text in batch.texts]
    topics = [topic for batch in corpus.read([path], text_field="domain") for topic in batch.texts]
    step = max(1, len(texts) // count)
    return texts[::step][:count], topics[::step][:count]


def load(features: str, model: Path, dtype: embed.DType, max_tokens: int, pool: list[str]) -> embed.Encoder:
    """Return the encoder that a run of this pool would have."""
    if features == "text":
        return embed.load(dtype=dtype, max_tokens=max_tokens, threads=1)
    encoder = embed.load(model, features=features, dtype=dtype, max_tokens=max_tokens, threads=1)  # type: ignore[arg-type]
    if features not in embed.SCALED:
        return encoder
    sampled = pool[:: max(1, len(pool) // SAMPLED)][:SAMPLED]
    return embed.scaled(encoder, embed.sample_moments(encoder, sampled))


def vectors(encoder: embed.Encoder, texts: list[str]) -> tuple[NDArray[np.float32], float]:
    """Return the vectors, and documents a second of processor time."""
    began = time.process_time()
    found = encoder.encode(texts).vectors
    rate = len(texts) / (time.process_time() - began)
    alone = encoder.encode(texts[:1]).vectors[0]
    if encoder.unit:
        assert float(found[0] @ alone) > LEAST_COSINE, "a document's vector depends on its neighbours"
    return found, rate


def chosen(pool: NDArray[np.float32], target: NDArray[np.float32], k: int, a: NDArray[np.float32] | None) -> list[int]:
    """Return the rows that gapsel chooses with its default settings."""
    return [int(row) for row in Selector(k=k, threads=1).fit(target, pool, pool_weights=a).select().rows]


def judged(name: str, pool: tuple[NDArray[np.float32], list[str]], target: tuple[NDArray[np.float32], list[str]],
           a: NDArray[np.float32] | None) -> str:  # fmt: skip
    """Return a line of the table: precision of each topic alone, then with all of them, and how shares differ."""
    x, topics = pool
    y, wanted = target
    cells = []
    for topic in TOPICS:
        k = topics.count(topic)
        rows = chosen(x, y[[one == topic for one in wanted]], k, a)
        cells.append(f"{sum(topics[row] == topic for row in rows) / k:.2f}")
    k = len(topics) // 10
    shares = Counter(topics[row] for row in chosen(x, y, k, a))
    cells.append(f"{sum(shares[topic] for topic in TOPICS) / k:.2f}")
    off = sum(abs(shares[topic] / k - wanted.count(topic) / len(wanted)) for topic in {*topics}) / 2
    return f"{name:22}" + "".join(f"{cell:>12}" for cell in [*cells, f"{off:.2f}"])


def main() -> None:
    """Embed, choose, and print both tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--model", type=Path, required=True, help="folder of a causal or masked language model")
    flags.add_argument("--documents", type=int, default=600)
    flags.add_argument("--max-tokens", type=int, default=64)
    flags.add_argument("--dtype", default="bfloat16")
    flags.add_argument("--features", nargs="+", default=["text", "hidden", "gradient", "loss"])
    given = flags.parse_args()
    (pool, topics), (target, wanted) = read("pool.jsonl.gz", given.documents), read("target_mix.jsonl.gz", 120)
    print(f"{len(pool)} documents, {len(target)} examples, {given.max_tokens} tokens, {given.dtype}, one core")
    shares = [topics.count(topic) / len(topics) for topic in TOPICS]
    print(f"{'features':22}" + "".join(f"{head:>12}" for head in [*TOPICS, "all three", "shares off"]))
    print(f"{'a random choice':22}" + "".join(f"{share:12.2f}" for share in [*shares, sum(shares)]), flush=True)
    rates, known = {}, {}
    for features in given.features:
        encoder = load(features, given.model, given.dtype, given.max_tokens, pool)
        x, rates[features] = vectors(encoder, pool)
        if features == "loss":
            a = np.exp(-x[:, 0])
            for name, (x_of, y_of) in known.items():
                print(judged(f"{name}, exp(-loss)", (x_of, topics), (y_of, wanted), a), flush=True)
            continue
        known[features] = x, vectors(encoder, target)[0]
        print(judged(features, (x, topics), (known[features][1], wanted), None), flush=True)
    for features, rate in rates.items():
        print(f"{features:10}{rate:8.1f} documents a second of one core")


if __name__ == "__main__":
    main()
