"""Residual noise: the threshold below which a direction is lost, the best t, the class's floor."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from fsd_jax import theory
from fsd_jax.simulate._sampled import SAMPLED_BLOCK
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import Work

SUMMARY = "residual noise: spiked-covariance threshold, error against t, floor of the paper's class"
LONG = True


def settings(quick: bool) -> dict[str, Any]:
    """Sizes; by default also the error against t, a compilation of its own."""
    return {
        "n_ta": 32 if quick else 64,
        "d": 2,
        "D": 51_200 if quick else 102_400,
        "tau": 1.0,
        "replicates": 64 if quick else 512,
        "latent_variance": [4.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 100.0, 300.0, 1000.0],
        "times": [] if quick else [1e-3, 1e-2, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0],
        "time_replicates": 512,
        "floor": {"D": 40, "d": 8, "tau": 0.2},
        "floor_times": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Sweeps with noise, and the population's score error with and without a residual gain."""
    s = settings
    spiked = {name: [s[name]] for name in ("n_ta", "d", "D", "tau")}
    for found in work.sweep(
        "threshold",
        **spiked,
        t=[0.5],
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
        for found in work.sweep(
            "against t",
            n_ta=[32],
            d=[4],
            D=[32],
            tau=[0.3],
            t=s["times"],
            method=["rank"],
            metric=["subspace_error"],
            replicates=s["time_replicates"],
            batch_size=SAMPLED_BLOCK,
        ):
            yield found
    work.tell("noise floor")
    yield from _floor(s)


def _floor(s: dict[str, Any]) -> Iterator[Row]:
    """Score error of the population's own decoder: what no data can remove."""
    D, d, tau2 = s["floor"]["D"], s["floor"]["d"], s["floor"]["tau"] ** 2
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=D, latent_dim=d, latent_variance=1.0, residual_variance=tau2
    )
    moment = fsd.SecondMoment.from_covariance(
        problem.A_ta @ problem.A_ta.T + tau2 * jnp.eye(D), throw=False
    )
    best = fsd.orthonormal_minimizer(moment, latent_dim=d)
    for gain, residual in (("none, as in the paper", 0.0), ("with a residual gain", tau2)):
        score = fsd.LinearScore.from_minimizer(
            best, latent_variance=1.0 + tau2, residual_variance=residual
        )
        for t in s["floor_times"]:
            signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(t)))
            exact = (D - d) * signal**2 * tau2**2 / ((signal * tau2 + noise) * noise**2)
            found = float(fsd.score_error(score, problem, time=t))
            yield row("floor", found, exact=0.0 if residual else exact, gain=gain, t=t)


def draw(table: Table) -> Any:
    """Two or three panels."""
    timed = bool(table.settings["times"])
    figure, axes = style.canvas(1, 3 if timed else 2, figsize=(14 if timed else 10, 4.4))
    s, axis = table.settings, axes[0, 0]
    rows = table.present(series="threshold")
    style.points(axis, rows, "latent_variance", 0, label="Monte Carlo, 2 s.e.")
    style.curve(axis, rows, "latent_variance", "exact", 1, label="limit of large $D$, $n_{ta}$")
    level = theory.spiked_threshold(
        latent_dim=s["d"], n_ta=s["n_ta"], ambient_dim=s["D"], residual_variance=s["tau"] ** 2
    )
    axis.axvline(level, color="0.5", lw=0.8)
    axis.text(level * 1.08, 0.15, rf"$\tau^2\sqrt{{D/n_{{ta}}}}$ = {level:.0f}", color="0.35")
    style.log_axes(
        axis,
        "latent_variance",
        style.ERROR,
        f"Below a threshold the subspace is lost\n(PCA, D = {s['D']:,}, "
        rf"$n_{{ta}}$ = {s['n_ta']}, d = {s['d']}, $\tau$ = 1)",
        up="linear",
    )
    axis.set_ylim(bottom=0)
    axis.legend()
    axis = axes[0, 1]
    for place, gain in enumerate(("none, as in the paper", "with a residual gain")):
        found = [
            {**r, "value": max(r["value"], 1e-30)} for r in table.present(series="floor", gain=gain)
        ]
        style.points(axis, found, "t", place, label=f"residual gain: {gain}", line=True)
    style.log_axes(
        axis,
        "t",
        "score error of the population's decoder",
        "What no data remove from the paper's class\n"
        r"(D = 40, d = 8, $\tau$ = 0.2, $\lambda^2$ = 1)",
    )
    axis.legend(["none, as in the paper", "with a residual gain"], loc="center right")
    if timed:
        axis = axes[0, 2]
        rows = table.present(series="against t")
        style.points(axis, rows, "t", 0, line=True, label="Monte Carlo, 2 s.e.")
        style.log_axes(
            axis,
            "t",
            style.ERROR,
            "With noise the error hardly moves for small t\n"
            r"(D = 32, d = 4, $n_{ta}$ = 32, $\tau$ = 0.3, $\lambda^2$ = 1)",
            up="linear",
        )
        axis.legend()
    return figure
