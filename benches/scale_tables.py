"""docs/scale.md's tables and docs/scale.svg, made by the cost model from the newest record in benches/record/scale.

Times on this machine come from the paces of the record and stand beside those of docs/growth.json; times on GPUs come
from the stated figures of gapsel/plan/machines.py. With --check nothing is written; the exit code says whether both
files are what record and model say.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapsel.config import Settings
from gapsel.plan import machines
from gapsel.plan.cost import KINDS, STEPS, Machine, Problem, disk, memory, network_bytes, row_bytes, seconds
from gapsel.report.axes import Axis
from gapsel.report.numbers import number, size

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benches" / "record" / "scale"
PAGE, PICTURE, GROWTH = (ROOT / "docs" / name for name in ("scale.md", "scale.svg", "growth.json"))
ROWS, GPUS = (10**8, 10**9, 10**10, 10**11), (1, 8, 64)
EACH = 8  # GPUs of a node
K = 1_000_000
UNITS = {
    "exact": "FLOP", "rough": "FLOP", "gram": "FLOP", "solve": "FLOP", "turns": "pairs", "token": "tokens",
    "parse": "rows", "hash": "bytes", "check": "numbers", "table": "rows",
}  # fmt: skip
WHAT = {
    "exact": "exact looks", "rough": "rough looks, in bfloat16", "gram": "Grams", "solve": "Newton steps, m = 1,000",
    "turns": "taking turns, in the report", "token": "embedding, all-MiniLM-L6-v2", "parse": "reading JSON lines, gzip",
    "hash": "fingerprints", "check": "checking vectors", "table": "writing tables",
}  # fmt: skip
# A model that says losses, and vectors in other formats, are the user's: `gapsel plan` measures those that it is given.
PACES = tuple(kind for kind in KINDS if kind in WHAT)
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 470, 20, 350, 640, 400
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLE = (
    "text { font: 13px sans-serif; fill: #333 } .rule { stroke: #8884; fill: none }"
    " @media (prefers-color-scheme: dark) { text { fill: #ddd } }"
)


def newest() -> dict[str, Any]:
    """Return the record of the last day."""
    found: dict[str, Any] = json.loads(max(RECORDS.glob("*.json")).read_text(encoding="utf-8"))
    return found


def here(found: dict[str, Any], threads: int) -> Machine:
    """Return the machine of a record, with so many threads."""
    shared = ("exact", "rough", "gram", "token", "solve")
    return Machine(
        name=f"{threads} cores of the record's processor", threads=threads,
        rates={kind: found["rates"][kind] * (threads if kind in shared else 1) for kind in PACES},
    )  # fmt: skip


def of_vectors(n: int, mass: float) -> Problem:
    """Return the problem of docs/growth.json at n rows."""
    k = min(10_000, n // 100)
    return Problem(n=n, m=1000, d=384, k=k, fit_rows=n, mass=mass, texts=False, embeds=False, stored=False)


def of_texts(n: int, found: dict[str, Any], layers: tuple[int, int, int] = (6, 384, 1536)) -> Problem:
    """Return a problem of n documents like the demo's, to be embedded by its encoder."""
    tokens = found["tokens_of_a_document"]
    return Problem(
        n=n, m=1000, d=384, k=K, fit_rows=Settings().fit_rows,
        tokens=n * tokens, token_flop=machines.token_flop(*layers, tokens),
        input_bytes=n * found["row_bytes"], row_bytes=found["row_bytes"], table_bytes=found["table_bytes"],
        score_bytes=found["score_bytes"],
    )  # fmt: skip


def gpus(count: int, found: dict[str, Any], token_flop: float) -> Machine:
    """Return so many GPUs, up to eight in a node, under hosts that read and write as fast as the record's."""
    nodes = -(-count // EACH)
    return machines.gpus(min(count, EACH), nodes, found["rates"], token_flop)


def markdown(rows: list[list[str]]) -> str:
    """Return a table; the first row has the names."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def constants(found: dict[str, Any]) -> str:
    """Return the paces of one thread."""
    rows = [["work", "a second of one thread"]]
    rows += [[WHAT[kind], f"{number(found['rates'][kind])} {UNITS[kind]}"] for kind in PACES]
    machine = found["machine"]
    about = (
        f"{machine['cpu']}, {machine['cores']} cores, {found['date']}; m = {found['m']:,}, d = {found['d']}. Other\n"
        f"work ran beside it: on the clock all this took {found['clock_by_processor']:.1f} times the processor's time."
    )
    return f"{about}\n\n{markdown(rows)}"


def points(found: dict[str, Any]) -> list[tuple[int, float, float, float]]:
    """Return (n, mass, measured seconds, those of the model) of docs/growth.json."""
    growth = json.loads(GROWTH.read_text(encoding="utf-8"))
    machine = here(found, growth["threads"])
    return [
        (r["n"], r["mass"], r["seconds"], seconds(of_vectors(r["n"], r["mass"]), machine)["fit"])
        for r in growth["results"]
    ]


def measured(found: dict[str, Any]) -> str:
    """Return the points of docs/growth.json beside the model."""
    rows = [["mass", "n", "measured, s", "the model, s", "model / measured"]]
    rows += [
        [f"{mass:g}", f"{n:,}", f"{took:.1f}", f"{said:.1f}", f"{said / took:.2f}"]
        for n, mass, took, said in sorted(points(found), key=lambda one: (one[1], one[0]))
    ]
    return markdown(rows)


def parts(found: dict[str, Any]) -> str:
    """Return what 1, 2 and 4 nodes do."""
    rows = [
        ["look", "nodes", "rows a second of the processor", "of one process", "merging", "sent", "back", "the model"]
    ]
    measured = found["parts"]
    for name in ("plain", "gram"):
        own = measured[name]
        for count in ("1", "2", "4"):
            one = own[count]
            said = network_bytes(measured["rows"], found["m"], int(count), gram=name == "gram")
            rows.append(
                [
                    "with a Gram" if name == "gram" else "exact", count, f"{one['rows_a_second']:,.0f}",
                    f"{one['rows_a_second'] / own['whole']:.0%}", f"{one['driver']:.1%}", f"{one['sent']:,}",
                    f"{one['back']:,}", f"{said:,.0f}",
                ]
            )  # fmt: skip
    return markdown(rows)


def predictions(found: dict[str, Any]) -> str:
    """Return times on GPUs, predicted."""
    rows = [["n", "GPUs", *STEPS, "in all", "without the report"]]
    for n in ROWS:
        for count in GPUS:
            problem = of_texts(n, found)
            took = seconds(problem, gpus(count, found, problem.token_flop))
            total = sum(took.values())
            cells = [short(took[step]) for step in STEPS]
            rows.append([power(n), str(count), *cells, short(total), short(total - took["report"])])
    return markdown(rows)


def sizes(found: dict[str, Any]) -> str:
    """Return what a run of n documents reads, writes, holds and sends."""
    rows = [["n", "input", "vectors", "run folder", "memory of the run", "a look: merged of 8 machines", "f of all"]]
    for n in ROWS:
        p = of_texts(n, found)
        cells = [
            p.input_bytes,
            p.vector_bytes,
            disk(p).total,
            memory(p, 1e9).total,
            network_bytes(n, p.m, 8, gram=True),
            row_bytes(p, "fit"),
        ]
        rows.append([power(n), *(size(round(value)) for value in cells)])
    return markdown(rows)


def power(n: int) -> str:
    """Return a power of ten as 10^8."""
    return f"10^{round(math.log10(n))}"


def short(value: float) -> str:
    """Return a time in two digits: 43 s, 5.1 h, 12 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= length:
            return f"{float(f'{value / length:.2g}'):g} {unit}"
    return f"{float(f'{value:.2g}'):g} s"


def stated() -> str:
    """Return what is assumed of GPUs and their nodes."""
    m = machines
    gpu = f"{m.GPU_FLOP / 1e12:g} TFLOP/s in float16, {m.GPU_MEMORY / 1e9:g} GB"
    network = f"{m.NODE_NETWORK * 8 / 1e9:g} Gbit/s, {m.NODE_SOLVE / 1e9:g} GFLOP/s"
    rows = [
        ["what", "figure", "from"],
        [m.GPU_NAME, gpu, "data sheet, without sparsity"],
        ["PCIe 5 x16, each way", f"{m.GPU_STREAM / 1e9:g} GB/s", "data sheet"],
        ["share of that rate: looks, encoder", f"{m.SWEEP_SHARE:g}, {m.ENCODER_SHARE:g}", "assumed"],
        ["products of an exact look", f"{m.PRODUCTS}", "assumed"],
        ["share of a GPU's memory for the pool", f"{m.POOL_SHARE:g}", "assumed"],
        ["a node: memory, disks", f"{m.NODE_MEMORY / 1e12:g} TB, {m.NODE_DISK / 1e9:g} GB/s", "assumed"],
        ["a node: network, Newton steps", network, "assumed"],
        ["what one thread of a node reads and writes", "as in the table of paces", "measured, on another machine"],
    ]
    return markdown(rows)


TABLES = {
    "constants": constants, "measured": measured, "parts": parts, "sizes": sizes, "predictions": predictions,
}  # fmt: skip


def page(text: str, found: dict[str, Any]) -> str:
    """Return the page with its tables renewed."""
    made = {name: table(found) for name, table in TABLES.items()} | {"stated": stated()}
    for name, table in made.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not begin or not end:
            msg = f"docs/scale.md has no place for {name}"
            raise ValueError(msg)
        text = f"{before}{begin}{table}\n{end}{after}"
    return text


def curves(found: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return the model's curves of fitting at mass 0.5: on this machine to 10^9 rows, on GPUs to 10^11."""
    many = [10 ** (4 + at / 4) for at in range(29)]
    own = here(found, 2)
    made = {"2 cores": [(n, seconds(of_vectors(round(n), 0.5), own)["fit"]) for n in many if n <= 10**9]}
    for count in GPUS:
        machine = gpus(count, found, 1.0)
        label = f"{count} GPU{'s' if count > 1 else ''}"
        made[label] = [(n, seconds(of_vectors(round(n), 0.5), machine)["fit"]) for n in many if n >= 10**7]
    return made


def picture(found: dict[str, Any]) -> str:
    """Return the curves with the measured points."""
    made = curves(found)
    x, y = Axis(1e4, 1e11, LEFT, RIGHT, log=True), Axis(0.1, 1e6, BOTTOM, TOP, log=True)
    parts_of_it, named = list(_frame(x, y)), list[float]()
    for at, (label, curve) in enumerate(made.items()):
        line = " ".join(f"{x.at(n):.1f},{y.at(took):.1f}" for n, took in curve)
        dash, name = ("", label) if at == 0 else (' stroke-dasharray="6 4"', f"{label}, predicted")
        # Curves that end at one place have their names one below the other.
        across, down = x.at(curve[-1][0]) + 8, y.at(curve[-1][1]) + 4
        down += 16 * sum(abs(down - other) < 12 for other in named)
        named.append(down)
        parts_of_it += [
            f'<polyline points="{line}" fill="none" stroke="{COLOURS[at]}" stroke-width="2"{dash}/>',
            f'<text x="{across:.1f}" y="{down:.1f}">{name}</text>',
        ]
    parts_of_it += [
        f'<circle cx="{x.at(n):.1f}" cy="{y.at(took):.1f}" r="4" fill="{COLOURS[0]}"/>'
        for n, mass, took, _ in points(found)
        if mass > 0
    ]
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>\n'
    return begin + "\n".join(parts_of_it) + "\n</svg>\n"


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    for tick in x.ticks():
        yield f'<path class="rule" d="M{tick.at:.1f} {TOP}V{BOTTOM}"/>'
        yield f'<text x="{tick.at:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick.label}</text>'
    for took in (1.0, 60.0, 3600.0, 86400.0):
        yield f'<path class="rule" d="M{LEFT} {y.at(took):.1f}H{RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y.at(took) + 4:.1f}" text-anchor="end">{short(took)}</text>'
    yield f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 40}" text-anchor="middle">documents in the pool</text>'


def main() -> None:
    """Renew page and picture, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something differs")
    args = parser.parse_args()
    found = newest()
    wanted = {PAGE: page(PAGE.read_text(encoding="utf-8"), found), PICTURE: picture(found)}
    if args.check:
        stale = [
            file.name for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text
        ]
        sys.exit(f"not as the record says: {', '.join(stale)}" if stale else 0)
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    print(f"wrote {', '.join(file.name for file in wanted)}")


if __name__ == "__main__":
    main()
