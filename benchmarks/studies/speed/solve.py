"""How fast and how accurate are moment + minimiser, beside what people would use today?

Every method returns the top-d eigenvalues and eigenvectors of the uncentred second moment, or of
the covariance for peers that always centre; each is compared with a float64 truth of its own kind.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jax import Array

import fsd_jax as fsd
from benchmarks import data, drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Missing, Table
from benchmarks.timing import BRIEF, interleave, peak_extra_bytes

OURS, FLOOR = "fsd_jax", "numpy gram (floor)"
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

Solution = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data, the number of directions, and how long timing may take."""

    name: str
    x: np.ndarray
    d: int
    seconds: float


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


def _ours(x: Array, d: int) -> Solution:
    moment = fsd.SecondMoment.from_samples(x, rank=d)
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=d, time=0.5)
    return moment.values, jax.block_until_ready(found.basis)  # type: ignore[return-value]


def _numpy_gram(x: np.ndarray, d: int) -> Solution:
    """The floor: what any route through the smaller side must do, unchecked."""
    n, ambient = x.shape
    if n <= ambient:
        values, vectors = np.linalg.eigh(x @ x.T)
        top = slice(None, -d - 1, -1)
        return values[top] / n, x.T @ (vectors[:, top] / np.sqrt(np.maximum(values[top], 1e-30)))
    values, vectors = np.linalg.eigh(x.T @ x)
    return values[: -d - 1 : -1] / n, vectors[:, : -d - 1 : -1]


def _scipy_eigh(x: np.ndarray, d: int) -> Solution:
    n, ambient = x.shape
    side = min(n, ambient)
    gram = x @ x.T if n <= ambient else x.T @ x
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(side - d, side - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    if n <= ambient:
        vectors = x.T @ (vectors / np.sqrt(np.maximum(values, 1e-30)))
    return values / n, vectors


def _arpack(x: np.ndarray, d: int, tol: float) -> Solution:
    v0 = np.ones(min(x.shape), x.dtype)
    _, s, vt = scipy.sparse.linalg.svds(x, k=d, tol=tol, v0=v0)
    order = np.argsort(-s)
    return s[order] ** 2 / x.shape[0], vt[order].T


def _sklearn(x: np.ndarray, d: int, solver: str, **options: Any) -> Solution:
    from sklearn.decomposition import PCA

    pca = PCA(d, svd_solver=solver, random_state=0, **options).fit(x)
    return pca.explained_variance_ * (x.shape[0] - 1) / x.shape[0], pca.components_.T


def _methods(problem: Problem) -> dict[str, tuple[Callable[[], Solution], bool]]:
    """Name -> (function, whether it centres). Peers with knobs appear at several settings."""
    x, d = problem.x, problem.d
    n, ambient = x.shape
    side = min(n, ambient)
    on_device = jax.device_put(x)
    methods: dict[str, tuple[Callable[[], Solution], bool]] = {
        OURS: (lambda: _ours(on_device, d), False),
        FLOOR: (lambda: _numpy_gram(x, d), False),
        "scipy eigh of gram": (lambda: _scipy_eigh(x, d), False),
        "scikit-learn full": (lambda: _sklearn(x, d, "full"), True),
    }
    if side > d + 1:
        methods["scipy svds (arpack) tol=0"] = (lambda: _arpack(x, d, 0.0), False)
        methods["scipy svds (arpack) tol=1e-4"] = (lambda: _arpack(x, d, 1e-4), False)
        methods["scikit-learn arpack"] = (lambda: _sklearn(x, d, "arpack"), True)
    if n >= ambient:
        methods["scikit-learn covariance_eigh"] = (
            lambda: _sklearn(x, d, "covariance_eigh"),
            True,
        )
    for power, extra in ((4, 10), (7, 10)):
        options = {"iterated_power": power, "n_oversamples": extra}
        methods[f"scikit-learn randomized q={power} p={extra}"] = (
            lambda options=options: _sklearn(x, d, "randomized", **options),  # type: ignore[misc]
            True,
        )
    return methods | _torch_methods(x, d)


def _torch_methods(x: np.ndarray, d: int) -> dict[str, tuple[Callable[[], Solution], bool]]:
    try:
        import torch
    except ImportError:
        return {}
    tensor = torch.from_numpy(x)

    def solve(q: int, steps: int) -> Solution:
        torch.manual_seed(0)
        _, s, v = torch.pca_lowrank(tensor, q=q, center=False, niter=steps)
        return (s[:d] ** 2 / x.shape[0]).numpy(), v[:, :d].numpy()

    sizes = sorted({min(q, *x.shape) for q in (d + 6, 2 * d)})
    return {
        f"torch pca_lowrank q={q} niter={steps}": (
            lambda q=q, steps=steps: solve(q, steps),  # type: ignore[misc]
            False,
        )
        for q, steps in itertools.product(sizes, (3, 5))
    }


def _measure(problem: Problem, *, full: bool) -> Iterator[Record]:
    x, d = problem.x, problem.d
    n, ambient = x.shape
    size = {"n": n, "D": ambient, "d": d}
    methods = _methods(problem)
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
    truths = {centred: _truth(x, d, centred) for centred in {methods[name][1] for name in chosen}}
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


def _truth(x: np.ndarray, d: int, centred: bool) -> Solution:
    """float64 eigenpairs by the smaller side's Gram matrix, or ARPACK where that is too large."""
    wide = x.astype(np.float64)
    if centred:
        wide -= wide.mean(axis=0)
    if min(x.shape) > 2000:
        return _arpack(wide, d, 0.0)
    if x.shape[0] <= x.shape[1]:
        _, s, vt = scipy.linalg.svd(wide, full_matrices=False)
        return s[:d] ** 2 / x.shape[0], vt[:d].T
    return _scipy_eigh(wide, d)


def _projector_error(basis: np.ndarray, truth: np.ndarray) -> float:
    """``|UU' - TT'|_F`` through the part of each basis outside the other."""
    outside = basis - truth @ (truth.T @ basis)
    return float(np.sqrt(2) * np.linalg.norm(outside))


def _timed(table: Table) -> dict[str, list[Record]]:
    """Rows with a time by problem, the quickest first."""
    rows = [r for r in table.rows if r["value"] is not None]
    names = dict.fromkeys(r["data"] for r in rows)
    return {
        name: sorted((r for r in rows if r["data"] == name), key=lambda r: r["value"])
        for name in names
    }


def _peers(rows: list[Record]) -> list[Record]:
    """What others offer at equal accuracy; the floor checks nothing and is no peer."""
    return [r for r in rows if r["method"] not in (OURS, FLOOR) and r["status"] == "ok"]


def draw(table: Table) -> Any:
    """Times as ratios to the fastest peer of equal accuracy; hollow where less accurate."""
    problems = _timed(table)
    sides = [len(rows) for rows in problems.values()]
    figure, axes = drawing.canvas(
        max(len(sides), 1),
        1,
        figsize=(8, 1.6 + 0.23 * sum(sides) + 0.6 * len(sides)),
        height_ratios=sides or [1],
    )
    for axis, (name, rows) in zip(axes[:, 0], problems.items(), strict=False):
        unit = min((r["value"] for r in _peers(rows)), default=rows[0]["value"])
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
    for name, rows in _timed(table).items():
        own = [r for r in rows if r["method"] == OURS]
        peers = _peers(rows)
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
    for name, rows in _timed(table).items():
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
