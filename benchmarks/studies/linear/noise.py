"""Residual noise: the threshold below which a direction is lost, the best t, the class's floor."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.judging import Statement, Verdict, close, judged
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table
from fsd_jax import theory
from fsd_jax.simulate._sampled import SAMPLED_BLOCK

GAINS = ("none, as in the paper", "with a residual gain")


def settings(size: str) -> Settings:
    """Sizes; by default also the error against t, a compilation of its own."""
    quick = size == "quick"
    return {
        "n_ta": 32 if quick else 64,
        "d": 2,
        "D": 51_200 if quick else 102_400,
        "tau": 1.0,
        "replicates": 64 if quick else 512,
        "latent_variance": [4.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 100.0, 300.0, 1000.0],
        "threshold_t": 0.5,
        "times": [] if quick else [1e-3, 1e-2, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0],
        "timed": {"n_ta": 32, "d": 4, "D": 32, "tau": 0.3},
        "time_replicates": 512,
        "floor": {"D": 40, "d": 8, "tau": 0.2},
        "floor_times": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Sweeps with noise, and the population's score error with and without a residual gain."""
    s = settings
    spiked = {name: [s[name]] for name in ("n_ta", "d", "D", "tau")}
    for found in work.sweep(
        "threshold",
        **spiked,
        t=[s["threshold_t"]],
        latent_variance=s["latent_variance"],
        method=["orthonormal"],
        metric=["subspace_error"],
        replicates=s["replicates"],
        batch_size=SAMPLED_BLOCK,
    ):
        size = {"latent_dim": s["d"], "n_ta": s["n_ta"], "ambient_dim": s["D"]}
        exact = theory.spiked_subspace_error(
            latent_variance=found["latent_variance"], residual_variance=s["tau"] ** 2, **size
        )
        yield found | {"exact": exact}
    if s["times"]:
        yield from work.sweep(
            "against t",
            **{name: [value] for name, value in s["timed"].items()},
            t=s["times"],
            method=["rank"],
            metric=["subspace_error"],
            replicates=s["time_replicates"],
            batch_size=SAMPLED_BLOCK,
        )
    work.tell("floor")
    yield from _floor(s)


def _floor(s: Settings) -> Iterator[Record]:
    """Score error of the population's own decoder: what no data can remove."""
    D, d, tau2 = s["floor"]["D"], s["floor"]["d"], s["floor"]["tau"] ** 2
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=D, latent_dim=d, latent_variance=1.0, residual_variance=tau2
    )
    moment = fsd.SecondMoment.from_covariance(
        problem.A_ta @ problem.A_ta.T + tau2 * jnp.eye(D), throw=False
    )
    best = fsd.orthonormal_minimizer(moment, latent_dim=d)
    for gain, residual in zip(GAINS, (0.0, tau2), strict=True):
        score = fsd.LinearScore.from_minimizer(
            best, latent_variance=1.0 + tau2, residual_variance=residual
        )
        for t in s["floor_times"]:
            signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(t)))
            exact = (D - d) * signal**2 * tau2**2 / ((signal * tau2 + noise) * noise**2)
            found = float(fsd.score_error(score, problem, time=t))
            yield record("floor", found, exact=0.0 if residual else exact, gain=gain, t=t)


def _threshold(s: Settings) -> float:
    return theory.spiked_threshold(
        latent_dim=s["d"], n_ta=s["n_ta"], ambient_dim=s["D"], residual_variance=s["tau"] ** 2
    )


def draw(table: Table) -> Any:
    """Two or three panels."""
    timed = bool(table.settings["times"])
    figure, axes = drawing.canvas(1, 3 if timed else 2, figsize=(14 if timed else 10, 4.4))
    s, axis = table.settings, axes[0, 0]
    rows = table.present(data="threshold")
    drawing.points(axis, rows, "latent_variance", 0, label="Monte Carlo, 2 s.e.")
    drawing.curve(axis, rows, "latent_variance", "exact", 1, label="limit of large $D$, $n_{ta}$")
    level = _threshold(s)
    axis.axvline(level, color="0.5", lw=0.8)
    axis.text(level * 1.08, 0.15, rf"$\tau^2\sqrt{{D/n_{{ta}}}}$ = {level:.0f}", color="0.35")
    title = f"Below a threshold the subspace is lost\n(PCA, D = {s['D']:,}, "
    title += rf"$n_{{ta}}$ = {s['n_ta']}, d = {s['d']}, $\tau$ = 1)"
    drawing.log_axes(axis, "latent_variance", drawing.ERROR, title, up="linear")
    axis.set_ylim(bottom=0)
    axis.legend()
    axis = axes[0, 1]
    for place, gain in enumerate(GAINS):
        rows = drawing.at_least(table.present(data="floor", gain=gain), 1e-30)
        label = gain.replace("none", "without a residual gain")
        drawing.points(axis, rows, "t", place, label=label, line=True)
    title = "What no data remove from the paper's class\n"
    title += r"(D = 40, d = 8, $\tau$ = 0.2, $\lambda^2$ = 1)"
    drawing.log_axes(axis, "t", "score error of the population's decoder", title)
    axis.legend(loc="center right")
    if timed:
        axis = axes[0, 2]
        rows = table.present(data="against t")
        drawing.points(axis, rows, "t", 0, line=True, label="Monte Carlo, 2 s.e.")
        title = "With noise the error hardly moves for small t\n"
        title += r"(D = 32, d = 4, $n_{ta}$ = 32, $\tau$ = 0.3, $\lambda^2$ = 1)"
        drawing.log_axes(axis, "t", drawing.ERROR, title, up="linear")
        axis.legend()
    return figure


def lines(table: Table) -> text.Lines:
    """The error on both sides of the threshold."""
    return [
        {
            "lambda^2": f"{r['latent_variance']:g}",
            "subspace error": text.short(r),
            "limit of large D": f"{r['exact']:.3g}",
        }
        for r in table.present(data="threshold")
    ]


def _ends(table: Table) -> tuple[list[Record], list[Record], float]:
    """Rows well below the threshold, those well above, and the threshold."""
    level, rows = _threshold(table.settings), table.select(data="threshold")
    lost = [r for r in rows if r["latent_variance"] < 0.6 * level]
    return lost, [r for r in rows if r["latent_variance"] > 2 * level], level


def finding(table: Table) -> str:
    """The error far below and far above the threshold, and the floor."""
    lost, found, level = _ends(table)
    floor, d = table.select(data="floor", gain=GAINS[0])[0], table.settings["d"]
    return (
        f"With D = {table.settings['D']:,} and {table.settings['n_ta']} samples PCA's error is "
        f"{lost[0]['value']:.4g} +- {lost[0]['stderr']:.1g} of at most {2 * d} at variance "
        f"{lost[0]['latent_variance']:g} and {found[-1]['value']:.3g} +- "
        f"{found[-1]['stderr']:.1g} at {found[-1]['latent_variance']:g} (threshold: {level:.0f}); "
        f"without a residual gain a score error of {floor['value']:.2g} at t = {floor['t']:g} "
        "is left whatever the data."
    )


def threshold(table: Table) -> Verdict:
    """Confirmed if PCA loses the subspace below the spiked-covariance threshold only."""
    s, (lost, found, level) = table.settings, _ends(table)
    # The limit's own error is of order 1/sqrt(n_ta) there; the signs are what decides.
    right = all(r["value"] > 2 * s["d"] * 0.98 for r in lost)
    right = right and all(
        abs(r["value"] - r["exact"]) < 0.05 * r["exact"] + 4 * r["stderr"] for r in found
    )
    top = found[-1]
    words = (
        f"D = {s['D']:,}, n_ta = {s['n_ta']}: below lambda^2/tau^2 = {level:.0f} the error is its "
        f"largest value {2 * s['d']} up to 2%; at {top['latent_variance']:g} it is "
        f"{top['value']:.3g}, where the limit says {top['exact']:.3g}"
    )
    return judged(top, words, ours=right)


def class_floor(table: Table) -> Verdict:
    """Printed: the class holds the true score. Ours: with residual noise it has a floor."""
    plain, fixed = (table.select(data="floor", gain=gain) for gain in GAINS)
    agree = all(close(r["value"], r["exact"], 1e-6) for r in plain)
    agree = agree and max(r["value"] for r in fixed) < 1e-9
    first = plain[0]
    words = (
        f"tau = {table.settings['floor']['tau']}: the population's own decoder has score error "
        f"{first['value']:.2g} at t = {first['t']:g}, as the formula says, and none with a "
        "residual gain; without noise (Assumption 3.1) the class is complete"
    )
    return judged(first, words, printed=first["value"] < 1e-9, ours=agree)


STUDY = Study(
    name="noise",
    figure="noise",
    summary="residual noise: spiked-covariance threshold, error against t, floor of the paper's "
    "class",
    settings=settings,
    compute=compute,
    pictures={"noise": draw},
    lines=lines,
    finding=finding,
    statements=(
        Statement(
            name="Section 3.1, residual noise",
            place="3.1 noise",
            says="The network class contains the true score (of data on a subspace)",
            function="fsd_jax.LinearScore",
            test="tests/score/test_errors.py::test_floor_of_the_papers_class",
            rule=class_floor,
        ),
        Statement(
            name="Beyond the paper: threshold",
            place="z",
            says="With residual noise PCA loses directions below a threshold (spiked covariance)",
            function="fsd_jax.theory.spiked_subspace_error",
            test="tests/theory/test_expansions.py::test_spiked_covariance_against_drawn_data",
            rule=threshold,
        ),
    ),
    long=True,
)
