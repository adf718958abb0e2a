"""Samplers: the error of what they generate against the number of steps, exactly; Lemma C.1."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from fsd_jax import LinearScore, ThinGaussian, sampler
from fsd_jax.sampler._grid import Steps
from fsd_jax.sampler._law import law_of_steps
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = (
    "exact KL and W2 of four samplers against their steps; Lemma C.1's step rule; a wrong sign"
)
ORDERS = {"ei_sde": 1, "em_sde": 1, "ei_ode": 1, "heun_ode": 2}
NAMES = {
    "ei_sde": "reverse SDE, exponential integrator",
    "em_sde": "reverse SDE, Euler-Maruyama",
    "ei_ode": "ODE, exponential integrator",
    "heun_ode": "ODE, Heun",
}
RULES = {"ours": r"$L = 1/\lambda_{\min}^2$", "printed": r"$L = \lambda_{\max}^2$, as printed"}


def settings(quick: bool) -> dict[str, Any]:
    """Sizes: a latent Gaussian, so that every law is known."""
    return {
        "lam2": [4.0, 1.0, 0.02],
        "delta": 1e-3,
        "T": 10.0,
        "steps": [32, 64, 128, 256] if quick else [16, 32, 64, 128, 256, 512, 1024],
        "rate": [0.4, 0.2, 0.1, 0.05] if quick else [0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125],
        "draws": 4000 if quick else 40_000,
        "drawn_steps": 64,
        # A compilation each.
        "drawn": ["ei_sde"] if quick else list(NAMES),
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Laws of the discretised samplers, and samples beside them."""
    s = settings
    d = len(s["lam2"])
    # As many coordinates as the latent has: no direction is left whose law has no density.
    score = fsd.LinearScore.from_decoder(jnp.eye(d), latent_variance=s["lam2"])
    clean = ThinGaussian(
        mean=jnp.zeros(d),
        basis=jnp.eye(d),
        variance=jnp.asarray(s["lam2"]),
        residual_variance=jnp.ones(()),
    )
    grids = {K: fsd.geometric_grid(s["delta"], s["T"], K) for K in s["steps"]}
    slopes = {"ours": 1 / min(s["lam2"]), "printed": max(s["lam2"])}
    rules = {
        (name, c): fsd.paper_grid(s["delta"], s["T"], rate=c, lipschitz=L)
        for name, L in slopes.items()
        for c in s["rate"]
    }
    most = max(len(times) for times in (*grids.values(), *rules.values())) - 1
    truth, start = clean.diffuse(s["delta"]), clean.diffuse(s["T"])
    for method in NAMES:
        work.tell(f"sampler-orders {method}")
        for K, times in grids.items():
            law = law_of_steps(score, _padded(times, most), start, method=method, denoise=False)
            yield row("steps", float(fsd.gaussian_kl(truth, law)), method=method, metric="kl", K=K)
            yield row(
                "steps", float(fsd.bures_w2(truth, law)) ** 0.5, method=method, metric="w2", K=K
            )
    normal = ThinGaussian(
        mean=jnp.zeros(d), basis=jnp.eye(d), variance=jnp.ones(d), residual_variance=jnp.ones(())
    )
    for (name, c), times in rules.items():
        steps = _padded(times, most)
        for begin, initial in (("exact", start), ("normal", normal)):
            law = law_of_steps(score, steps, initial, method="ei_sde", denoise=False)
            yield row(
                "step rule",
                float(fsd.gaussian_kl(truth, law)),
                rule=name,
                rate=c,
                start=begin,
                K=len(times) - 1,
            )
    ends = float(fsd.gaussian_kl(start, normal))
    yield row("start", ends, exact=_start(s), bound=d * float(np.exp(-s["T"])))
    work.tell("sampler-orders drawing")
    yield from _drawn(s, score, truth, normal, most)


def _start(s: dict[str, Any]) -> float:
    """KL of the diffused law from N(0, I), by its formula."""
    excess = np.exp(-s["T"]) * (np.asarray(s["lam2"]) - 1)
    return float(np.sum(excess - np.log1p(excess)) / 2)


def _drawn(
    s: dict[str, Any], score: LinearScore, truth: ThinGaussian, normal: ThinGaussian, most: int
) -> Iterator[Row]:
    """Mean squared norm of samples, beside that of their exact law; also with a drift of +f."""
    times = fsd.geometric_grid(s["delta"], s["T"], s["drawn_steps"])
    key, size = jax.random.key(SEED), dict(times=times, n=s["draws"], shape=len(s["lam2"]))
    for method in s["drawn"]:
        squares = np.sum(np.asarray(sampler.sample(key, score, method=method, **size)) ** 2, axis=1)
        law = law_of_steps(score, _padded(times, most), normal, method=method, denoise=False)
        yield _energy("drawn", squares, float(jnp.sum(law.variance)), method=method)

    def turned(x: jax.Array, t: jax.Array) -> jax.Array:
        # The drift +f is -f less y, which may as well be taken from the score.
        return score(x, t) - x

    squares = np.sum(np.asarray(sampler.sample(key, turned, **size)) ** 2, axis=1)
    wanted = float(jnp.sum(truth.variance))
    yield _energy("drift +f", squares, wanted)


def _energy(series: str, squares: np.ndarray, exact: float, **cell: Any) -> Row:
    error = float(squares.std(ddof=1) / squares.size**0.5)
    return row(series, float(squares.mean()), stderr=error, exact=exact, **cell)


def _padded(times: Any, most: int) -> Steps:
    """Steps of size zero change nothing, so that grids of any length share a compilation."""
    # In NumPy: in JAX every length would be a compilation of its own.
    down = np.asarray(times, np.float64)[::-1]
    size = -np.diff(fsd.VP().host_integrated_rate(down))
    idle = np.full(most - size.size, down[0])
    rows = (down[:-1], down[1:], size)
    first = (idle, idle, np.zeros_like(idle))
    return Steps(*(jnp.asarray(np.concatenate(pair)) for pair in zip(first, rows, strict=True)))


def draw(table: Table) -> Any:
    """KL and W2 against the steps, Lemma C.1's rule, and samples beside their law."""
    figure, axes = style.canvas(2, 2, figsize=(10.5, 8.2))
    lam2 = ", ".join(f"{v:g}" for v in table.settings["lam2"])
    titles = {"kl": "KL(truth || generated)", "w2": r"$W_2$ to the truth"}
    for axis, (metric, title) in zip(axes[0], titles.items(), strict=True):
        for place, (method, name) in enumerate(NAMES.items()):
            rows = table.present(series="steps", method=method, metric=metric)
            order = ORDERS[method] * (2 if metric == "kl" else 1)
            style.points(axis, rows, "K", place, line=True, label=f"{name}: order {order}")
        style.log_axes(
            axis, "number of steps", title, rf"Exact score and start, $\lambda_k^2$ = {lam2}"
        )
        axis.set_xticks(table.settings["steps"], [str(K) for K in table.settings["steps"]])
        axis.minorticks_off()
        axis.legend(fontsize=7)
    axis = axes[1, 0]
    for place, (rule, name) in enumerate(RULES.items()):
        rows = table.present(series="step rule", rule=rule, start="normal")
        style.points(axis, rows, "rate", place, line=True, label=name)
        for r in rows:
            axis.annotate(
                f"{r['K']} steps",
                (r["rate"], r["value"]),
                (5, -9),
                fontsize=6.5,
                textcoords="offset points",
                color="0.35",
            )
    style.log_axes(
        axis,
        "c",
        titles["kl"],
        "Lemma C.1 from N(0, I): exponential integrator,\n"
        r"$h_k = c\,\min(\max(t_k, 1/L), 1)$",
    )
    axis.set_xticks(table.settings["rate"], [str(c) for c in table.settings["rate"]])
    axis.minorticks_off()
    axis.legend(fontsize=7)
    _samples(axes[1, 1], table)
    return figure


def _samples(axis: Any, table: Table) -> None:
    rows = [*table.present(series="drawn"), *table.present(series="drift +f")]
    for place, r in enumerate(rows):
        look = 1 if r["series"] == "drift +f" else 0
        share = {"value": r["value"] / r["exact"], "stderr": r["stderr"] / r["exact"], "x": place}
        style.points(axis, [share], "x", look)
    axis.axhline(1, color="0.4", ls="--", lw=1)
    short = {m: n.replace("exponential ", "exp. ").replace(", ", ",\n") for m, n in NAMES.items()}
    names = [short.get(str(r.get("method")), "drift +f\nas printed") for r in rows]
    axis.set_xticks(range(len(rows)), names, fontsize=7)
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_ylim(0, 1.15)
    axis.set(
        ylabel=r"$E\,|x|^2$ of samples over the exact one",
        title="Samples beside their exact law (2 s.e.);\n"
        "the drift printed in Section 3.1 beside the truth",
    )
