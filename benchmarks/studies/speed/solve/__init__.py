"""How fast and how accurate are moment + minimiser, beside what people would use today?

Every method returns the top-d eigenvalues and eigenvectors of the uncentred second moment, or of
the covariance for peers that always centre; each is compared with a float64 truth of its own kind.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import data, drawing, text
from benchmarks.records import Record, record
from benchmarks.studies.speed.solve.peers import FLOOR, OURS, Problem, methods_for, truth_of
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Missing, Table
from benchmarks.timing import BRIEF, interleave, peak_extra_bytes

EIGENVALUE_TOLERANCE = 1e-5
PROJECTOR_TOLERANCE = 1e-3
SLOW = 10.0
LARGE = 1e10
ONCE = 1.2
"""By default a peer slower than this is timed once, to keep within minutes."""
LEFT_OUT = (
    "scikit-learn arpack",
    "scikit-learn full",
    "scikit-learn randomized",
    "scipy svds (arpack) tol=1e-4",
)
"""On large data left to --full: no faster than another solver, or with too few steps wrong."""


def settings(size: str) -> Settings:
    """Problems: name, samples, pixels, directions, and about how many seconds to time them."""
    quick, full = size == "quick", size == "full"
    power = "power-law {} x {}"
    small = [power, 10, 12288, 10, 1.0 if quick else 6.0 if full else 3.0]
    medium = [power, 100, 12288, 24, 6.0 if full else 3.0]
    large = [[power, 6400, 12288, 24, 4.0], ["fashion {} x {}", 60000, 784, 24, 4.0]]
    problems: list[list[Any]] = [small] if quick else [small, medium, *large]
    return {
        "problems": [[name.format(n, wide), n, wide, *rest] for name, n, wide, *rest in problems],
        "full": full,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Time, floor, accuracy and memory of every method on every problem."""
    for name, n, ambient, d, seconds in settings["problems"]:
        work.tell(name)
        problem = _problem(name, n, ambient, d, seconds, work.seed)
        yield from _measure(problem, full=settings["full"])


def _problem(name: str, n: int, ambient: int, d: int, seconds: float, seed: int) -> Problem:
    x = data.fashion_images() if name.startswith("fashion") else None
    if x is None:
        if name.startswith("fashion"):
            # Without the data set, random data of its size, which take longer.
            name, seconds = f"power-law {n} x {ambient}", 2 * seconds
        x = data.power_law(n, ambient, exponent=1.7, seed=seed)
    return Problem(name=name, x=x, d=d, seconds=seconds)


def _measure(problem: Problem, *, full: bool) -> Iterator[Record]:
    x, d = problem.x, problem.d
    n, ambient = x.shape
    size = {"n": n, "D": ambient, "d": d}
    methods = methods_for(problem)
    flops = 2.0 * n * ambient * min(n, ambient)
    chosen = {}
    for name, (method, _) in methods.items():
        reason = None if full else _left_to_full(name, flops)
        if reason:
            yield record(
                problem.name,
                None,
                method=name,
                metric="time",
                unit="s",
                status=f"left to --full: {reason}",
                **size,
            )
            continue
        chosen[name] = method
    truths = {centred: truth_of(x, d, centred) for centred in {methods[name][1] for name in chosen}}
    timings = interleave(chosen, seconds=problem.seconds, slow=SLOW if full else ONCE, brief=BRIEF)
    floor = timings[FLOOR].median if FLOOR in timings else None
    for name, timing in timings.items():
        values, basis = (np.asarray(part, np.float64) for part in timing.result)
        centred = methods[name][1]
        truth = truths[centred]
        # n centred samples determine n - 1 directions.
        k = min(d, n - centred)
        eigen = float(np.max(np.abs(values[:k] / truth[0][:k] - 1)))
        projector = _projector_error(basis[:, :k], truth[1][:, :k])
        accurate = eigen <= EIGENVALUE_TOLERANCE and projector <= PROJECTOR_TOLERANCE
        yield record(
            problem.name,
            timing.median,
            method=name,
            metric="time",
            stderr=timing.spread,
            unit="s",
            seconds=timing.first,
            floor=floor,
            status="ok" if accurate else "less accurate",
            eigenvalue_error=eigen,
            projector_error=projector,
            peak_extra_bytes=peak_extra_bytes(chosen[name]) if name == OURS or full else None,
            data_bytes=x.nbytes,
            calls=timing.calls,
            gflops_of_gram=flops / 1e9,
            **size,
        )


def _left_to_full(name: str, flops: float) -> str | None:
    """Why a peer is not timed by default."""
    if _expected_seconds(name, flops) > SLOW:
        return "expected over 10 s"
    if name.startswith(LEFT_OUT) and flops > LARGE:
        return "another peer is faster at equal accuracy"
    return None


def _expected_seconds(name: str, flops: float) -> float:
    """A guess from the flops alone, at rates that every recent core reaches."""
    if "full" in name:
        return 4 * flops / 3e10
    if "gram" in name or "covariance_eigh" in name:
        return flops / 1e11
    return 0.0


def _projector_error(basis: np.ndarray, truth: np.ndarray) -> float:
    """``|UU' - TT'|_F`` through the part of each basis outside the other."""
    outside = basis - truth @ (truth.T @ basis)
    return float(np.sqrt(2) * np.linalg.norm(outside))


def timed(table: Table) -> dict[str, list[Record]]:
    """Rows with a time by problem, the quickest first."""
    rows = [r for r in table.rows if r["value"] is not None]
    names = dict.fromkeys(r["data"] for r in rows)
    return {
        name: sorted((r for r in rows if r["data"] == name), key=lambda r: r["value"])
        for name in names
    }


def rivals(rows: list[Record]) -> list[Record]:
    """What others offer at equal accuracy; the floor checks nothing and is no peer."""
    return [r for r in rows if r["method"] not in (OURS, FLOOR) and r["status"] == "ok"]


def draw(table: Table) -> Any:
    """Times as ratios to the fastest peer of equal accuracy; hollow where less accurate."""
    problems = timed(table)
    sides = [len(rows) for rows in problems.values()]
    figure, axes = drawing.canvas(
        max(len(sides), 1),
        1,
        figsize=(8, 1.6 + 0.23 * sum(sides) + 0.6 * len(sides)),
        height_ratios=sides or [1],
    )
    for axis, (name, rows) in zip(axes[:, 0], problems.items(), strict=False):
        unit = min((r["value"] for r in rivals(rows)), default=rows[0]["value"])
        for i, row in enumerate(reversed(rows)):
            color = "#1f6fb4" if row["method"] == OURS else "#8c8c8c"
            filled = row["status"] == "ok"
            axis.barh(i, row["value"] / unit, color=color if filled else "none", edgecolor=color)
        axis.axvline(1.0, color="black", lw=0.8, ls="--")
        axis.set_yticks(range(len(rows)), [r["method"] for r in reversed(rows)], fontsize=7)
        axis.set(xscale="log", xlim=(rows[0]["value"] / unit / 2, None))
        axis.set(title=f"{name}, d = {rows[0]['d']}: {1e3 * unit:.3g} ms is 1")
    axes[-1, 0].set_xlabel("time / that of the fastest peer of equal accuracy")
    figure.suptitle(
        "Moment + minimiser (hollow: top eigenvalues off by more than 1e-5,\n"
        "or projector by more than 1e-3)",
        fontsize=10,
    )
    return figure


def finding(table: Table) -> str:
    """How many times longer the fastest peer of equal accuracy takes, on each problem."""
    said = []
    for name, rows in timed(table).items():
        own = [r for r in rows if r["method"] == OURS]
        peers = rivals(rows)
        if own and peers:
            pair = (own[0], peers[0])
            ratio = peers[0]["value"] / own[0]["value"]
            error = ratio * sum(((r["stderr"] or 0) / r["value"]) ** 2 for r in pair) ** 0.5
            said.append(f"{ratio:.2g} +- {error:.1g} on {name} ({peers[0]['method']})")
    if not said:
        raise Missing("no peer was as accurate, or none was timed")
    return f"Time of the fastest equally accurate peer over ours: {', '.join(said)}."


def _milliseconds(row: Record) -> str:
    return f"{1e3 * row['value']:.3g} +- {1e3 * (row['stderr'] or 0):.1g} ms"


def lines(table: Table) -> text.Lines:
    """One line a problem and method: its time, how many floors that is, its accuracy."""
    found = []
    for name, rows in timed(table).items():
        for r in rows:
            found.append(
                {
                    "problem": name.removeprefix("power-law "),
                    "method": r["method"],
                    "time": _milliseconds(r),
                    "over floor": f"{r['value'] / r['floor']:.2f}" if r["floor"] else "-",
                    "accuracy": "as asked" if r["status"] == "ok" else r["status"],
                }
            )
    if len(found) > text.LINES:
        found = [line for line in found if "randomized" not in line["method"]]
    return found


STUDY = Study(
    name="solve",
    summary="time, memory and accuracy of moment + minimiser against scikit-learn, SciPy, torch",
    settings=settings,
    compute=compute,
    pictures={"solve": draw},
    lines=lines,
    finding=finding,
    usual=True,
    timed=True,
    measured=(
        *("eigenvalue_error", "projector_error", "peak_extra_bytes", "data_bytes", "calls"),
        "gflops_of_gram",
    ),
)
