"""Samplers: the error of what they generate against the number of steps, exactly; Lemma C.1."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.judging import SIGMAS, Statement, Verdict, close, judged, sigmas, worst_sigmas
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table
from fsd_jax import LinearScore, ThinGaussian, sampler, theory
from fsd_jax.sampler._grid import Steps
from fsd_jax.sampler._law import law_of_steps

ORDERS = {"ei_sde": 1, "em_sde": 1, "ei_ode": 1, "heun_ode": 2}
NAMES = {
    "ei_sde": "SDE, exp. integrator",
    "em_sde": "SDE, Euler-Maruyama",
    "ei_ode": "ODE, exp. integrator",
    "heun_ode": "ODE, Heun",
}
BEND = 0.15
"""How far a slope may be from its order: the next order bends the curve at few steps."""
RULES = {"ours": r"$L = 1/\lambda_{\min}^2$", "printed": r"$L = \lambda_{\max}^2$, as printed"}


def settings(size: str) -> Settings:
    """Sizes: a latent Gaussian, so that every law is known."""
    quick = size == "quick"
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


def compute(settings: Settings, work: Work) -> Iterator[Record]:
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
        work.tell(method)
        for K, times in grids.items():
            law = law_of_steps(score, _padded(times, most), start, method=method, denoise=False)
            errors = {"kl": fsd.gaussian_kl(truth, law), "w2": fsd.bures_w2(truth, law) ** 0.5}
            for metric, error in errors.items():
                yield record("steps", float(error), method=method, metric=metric, K=K)
    normal = ThinGaussian(
        mean=jnp.zeros(d), basis=jnp.eye(d), variance=jnp.ones(d), residual_variance=jnp.ones(())
    )
    for (name, c), times in rules.items():
        steps = _padded(times, most)
        for begin, initial in (("exact", start), ("normal", normal)):
            law = law_of_steps(score, steps, initial, method="ei_sde", denoise=False)
            yield record(
                "step rule",
                float(fsd.gaussian_kl(truth, law)),
                rule=name,
                rate=c,
                start=begin,
                K=len(times) - 1,
            )
    ends = float(fsd.gaussian_kl(start, normal))
    yield record("start", ends, exact=_start(s), bound=d * float(np.exp(-s["T"])))
    work.tell("drawing")
    yield from _drawn(s, work.seed, score, truth, normal, most)


def _start(s: Settings) -> float:
    """KL of the diffused law from N(0, I), by its formula."""
    excess = np.exp(-s["T"]) * (np.asarray(s["lam2"]) - 1)
    return float(np.sum(excess - np.log1p(excess)) / 2)


def _drawn(
    s: Settings, seed: int, score: LinearScore, truth: ThinGaussian, normal: ThinGaussian, most: int
) -> Iterator[Record]:
    """Mean squared norm of samples, beside that of their exact law; also with a drift of +f."""
    times = fsd.geometric_grid(s["delta"], s["T"], s["drawn_steps"])
    key, size = jax.random.key(seed), dict(times=times, n=s["draws"], shape=len(s["lam2"]))
    for method in s["drawn"]:
        squares = np.sum(np.asarray(sampler.sample(key, score, method=method, **size)) ** 2, axis=1)
        law = law_of_steps(score, _padded(times, most), normal, method=method, denoise=False)
        yield record("drawn", **mean(squares), exact=float(jnp.sum(law.variance)), method=method)

    def turned(x: jax.Array, t: jax.Array) -> jax.Array:
        # The drift +f is -f less y, which may as well be taken from the score.
        return score(x, t) - x

    squares = np.sum(np.asarray(sampler.sample(key, turned, **size)) ** 2, axis=1)
    yield record("drift +f", **mean(squares), exact=float(jnp.sum(truth.variance)))


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
    figure, axes = drawing.canvas(2, 2, figsize=(10.5, 8.2))
    lam2 = ", ".join(f"{v:g}" for v in table.settings["lam2"])
    titles = {"kl": "KL(truth || generated)", "w2": r"$W_2$ to the truth"}
    for axis, (metric, title) in zip(axes[0], titles.items(), strict=True):
        for place, (method, name) in enumerate(NAMES.items()):
            rows = table.present(data="steps", method=method, metric=metric)
            order = ORDERS[method] * (2 if metric == "kl" else 1)
            drawing.points(axis, rows, "K", place, line=True, label=f"{name}: order {order}")
        drawing.log_axes(
            axis, "number of steps", title, rf"Exact score and start, $\lambda_k^2$ = {lam2}"
        )
        axis.set_xticks(table.settings["steps"], [str(K) for K in table.settings["steps"]])
        axis.minorticks_off()
        axis.legend(fontsize=7)
    axis = axes[1, 0]
    for place, (rule, name) in enumerate(RULES.items()):
        rows = table.present(data="step rule", rule=rule, start="normal")
        drawing.points(axis, rows, "rate", place, line=True, label=name)
        for r in rows:
            axis.annotate(
                f"{r['K']} steps",
                (r["rate"], r["value"]),
                (5, -9),
                fontsize=6.5,
                textcoords="offset points",
                color="0.35",
            )
    drawing.log_axes(
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
    rows = [*table.present(data="drawn"), *table.present(data="drift +f")]
    for place, r in enumerate(rows):
        look = 1 if r["data"] == "drift +f" else 0
        share = {"value": r["value"] / r["exact"], "stderr": r["stderr"] / r["exact"], "x": place}
        drawing.points(axis, [share], "x", look)
    axis.axhline(1, color="0.4", ls="--", lw=1)
    short = {m: n.replace(", ", ",\n") for m, n in NAMES.items()}
    names = [short.get(str(r.get("method")), "drift +f\nas printed") for r in rows]
    axis.set_xticks(range(len(rows)), names, fontsize=7)
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_ylim(0, 1.15)
    axis.set(
        ylabel=r"$E\,|x|^2$ of samples over the exact one",
        title="Samples beside their exact law (2 s.e.);\n"
        "the drift printed in Section 3.1 beside the truth",
    )


def lines(table: Table) -> text.Lines:
    """W2 against the steps, a column for each sampler."""
    rows = table.present(data="steps", metric="w2")
    return text.pivot(rows, ("K",), lambda row: NAMES[row["method"]], text.short)


def _slopes(table: Table) -> dict[str, list[theory.Slope]]:
    """Of W2 and KL in the number of steps, the three largest."""

    def one(method: str, metric: str) -> theory.Slope:
        rows = table.select(data="steps", method=method, metric=metric)
        return _fit(sorted(rows, key=lambda r: -r["K"])[:3], "K")

    return {method: [one(method, metric) for metric in ("w2", "kl")] for method in ORDERS}


def _fit(rows: list[Record], x: str) -> theory.Slope:
    return theory.loglog_slope(*(np.array([r[name] for r in rows]) for name in (x, "value")))


def finding(table: Table) -> str:
    """Each sampler's order, and the error at the most steps."""
    most = max(r["K"] for r in table.select(data="steps"))
    ends = {m: table.one(data="steps", method=m, metric="w2", K=most)["value"] for m in ORDERS}
    orders = "; ".join(
        f"{NAMES[method]} {-pair[0].value:.2f} and {ends[method]:.1g}"
        for method, pair in _slopes(table).items()
    )
    return f"Orders in W2 of exact laws, and what is left after {most} steps: {orders}."


def orders(table: Table) -> Verdict:
    """Confirmed if every method has its order in W2 (twice that in KL), and samples their law."""
    found = _slopes(table)
    worst = worst_sigmas(table.select(data="drawn"))
    right = worst <= SIGMAS and all(
        abs(slope.value + power * ORDERS[method]) < BEND * power * ORDERS[method]
        for method, pair in found.items()
        for slope, power in zip(pair, (1, 2), strict=True)
    )
    wrong = table.one(data="drift +f")
    words = (
        "exact laws; slopes in the number of steps of W2 and KL: "
        + ", ".join(f"{m} {w.value:.2f} and {k.value:.2f}" for m, (w, k) in found.items())
        + f"; samples within {worst:.1f} standard errors of their law; with the printed drift +f "
        f"their mean square is {wrong['value'] / wrong['exact']:.2f} of the truth's "
        f"({sigmas(wrong):.0f} standard errors off)"
    )
    return judged(found["ei_sde"][0], words, exact=-1.0, ours=right)


def lemma_c_1(table: Table) -> Verdict:
    """Printed: by its step rule the KL falls with c to what the start costs. Ours: like c^2."""
    begun = {
        (rule, start): sorted(
            table.select(data="step rule", rule=rule, start=start), key=lambda r: r["rate"]
        )
        for rule in RULES
        for start in ("exact", "normal")
    }
    slopes = {rule: _fit(begun[rule, "exact"][:3], "rate") for rule in RULES}
    coarse = {rule: begun[rule, "exact"][-1] for rule in RULES}
    start = table.one(data="start")
    rest = [
        abs(normal["value"] - exact["value"]) / start["bound"]
        for rule in RULES
        for normal, exact in zip(begun[rule, "normal"], begun[rule, "exact"], strict=True)
    ]
    agree = close(start["value"], start["exact"], 1e-5) and start["value"] <= start["bound"]
    agree = agree and abs(slopes["ours"].value - 2) < 2 * BEND
    words = (
        f"latent Gaussian, exact score: the KL falls like c^({slopes['ours'].value:.2f}) with L = "
        f"1/lambda_min^2 and c^({slopes['printed'].value:.2f}) with the printed lambda_max^2; at c "
        f"= {coarse['ours']['rate']} {coarse['ours']['K']} steps give "
        f"{coarse['ours']['value']:.2g}, the printed rule's {coarse['printed']['K']} "
        f"{coarse['printed']['value']:.2g}; starting from N(0, I) changes it by at most "
        f"{max(rest):.2g} d e^(-T)"
    )
    falls = all(slope.value > 1 for slope in slopes.values()) and max(rest) <= 1
    return judged(slopes["ours"], words, exact=2.0, printed=falls, ours=agree)


STUDY = Study(
    name="sampler-orders",
    figure="sampler-orders",
    summary="exact KL and W2 of four samplers against their steps; Lemma C.1's step rule; a wrong "
    "sign",
    settings=settings,
    compute=compute,
    pictures={"sampler-orders": draw},
    lines=lines,
    finding=finding,
    statements=(
        Statement(
            name="Section 3.1, sampler",
            place="3.1 sampler",
            says="The reverse SDE, its score frozen in each step and the rest solved exactly, "
            "samples the law",
            function="fsd_jax.sampler.sample",
            test="tests/sampler/test_law.py::test_order_of_convergence_in_law",
            rule=orders,
        ),
        Statement(
            name="Lemma C.1",
            place="C.1",
            says="Sampling the pre-trained latent model by exponential integrator steps is "
            "accurate in KL divergence",
            function="fsd_jax.sampler.generated_law",
            test="tests/sampler/test_law.py::test_law_against_dense_algebra",
            rule=lemma_c_1,
        ),
    ),
)
