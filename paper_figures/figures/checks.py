"""Identities, assumptions and slips that one number decides: printed, ours, and measured."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from fsd_jax import theory
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "identities, assumptions and slips that one number decides: printed, ours, measured"
PRINTED_COEFFICIENT = 20e6
"""Remark 4.4's ``D/delta``."""


def settings(quick: bool) -> dict[str, Any]:
    """Sizes."""
    return {
        "D": 20,
        "d": 3,
        "lam2": [4.0, 1.0, 0.5],
        "t": [0.1, 0.5, 2.0],
        "samples": 4000 if quick else 40_000,
        "draws": 2000 if quick else 20_000,
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """One part a statement."""
    parts = (
        _world,
        _score,
        _lipschitz,
        _constant,
        _reverse,
        _divergence,
        _accuracy,
        _coefficient,
        _level,
        _schedule,
        _class,
    )
    for part in parts:
        work.tell(f"checks {part.__name__.strip('_')}")
        yield from part(settings)


def _levels(t: float) -> tuple[float, float]:
    signal, noise = fsd.VP().host_variances(np.asarray(t))
    return float(signal), float(noise)


def _problem(s: dict[str, Any]) -> fsd.LinearProblem:
    return fsd.LinearProblem.random(
        jax.random.key(SEED), ambient_dim=s["D"], latent_dim=s["d"], latent_variance=s["lam2"]
    )


def _world(s: dict[str, Any]) -> Iterator[Row]:
    """Assumptions 3.1 and 4.1 in the worlds that everything else is measured in."""
    problem = _problem(s)
    keys = jax.random.split(jax.random.key(SEED + 1))
    n = s["samples"]
    for name, A, x in (
        ("source", np.asarray(problem.A_s), np.asarray(problem.sample_source(keys[0], n))),
        ("target", np.asarray(problem.A_ta), np.asarray(problem.sample_target(keys[1], n))),
    ):
        yield row(
            "orthonormal columns",
            float(np.abs(A.T @ A - np.eye(s["d"])).max()),
            exact=0.0,
            data=name,
        )
        outside = float(np.sum((x - x @ A @ A.T) ** 2) / np.sum(x**2))
        yield row("outside the subspace", outside, exact=0.0, data=name)
        squares = (x @ A) ** 2
        for k, variance in enumerate(s["lam2"]):
            yield row(
                "latent variance",
                float(squares[:, k].mean()),
                exact=variance,
                data=name,
                k=k,
                stderr=float(squares[:, k].std(ddof=1) / n**0.5),
            )
    z = np.asarray(problem.latent.sample(keys[0], n))
    energy = np.sum(z**2, axis=1)
    yield row(
        "C_Z",
        float(energy.mean()),
        stderr=float(energy.std(ddof=1) / n**0.5),
        exact=float(sum(s["lam2"])),
    )
    weakest = z[:, np.argmin(s["lam2"])] ** 2
    yield row(
        "c_0",
        float(weakest.mean()),
        stderr=float(weakest.std(ddof=1) / n**0.5),
        exact=min(s["lam2"]),
    )
    # C_2 = 1/lambda_max^2 and C_1 = prod 1/lambda_k: the density never exceeds the tail's bound.
    logs = -0.5 * (z**2 / np.asarray(s["lam2"])).sum(axis=1)
    yield row("tail", float(np.max(logs + 0.5 * energy / max(s["lam2"]))), bound=1e-12)


def _score(s: dict[str, Any]) -> Iterator[Row]:
    """Section 5's score by differentiating the log density, on and off the subspace."""
    lam2 = 2.0
    problem = fsd.LinearProblem.random(
        jax.random.key(SEED), ambient_dim=s["D"], latent_dim=s["d"], latent_variance=lam2
    )
    A = problem.A_ta
    inside = A[:, 0]
    outside = jnp.linalg.svd(A, full_matrices=True)[0][:, -1]
    for t in s["t"]:
        signal, noise = _levels(t)
        covariance = signal * lam2 * A @ A.T + noise * jnp.eye(s["D"])

        def density(x: jax.Array, covariance: jax.Array = covariance) -> jax.Array:
            centre = jnp.zeros(s["D"])
            return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(x, centre, covariance))

        x = inside + outside
        score = jax.grad(density)(x)
        on, off = float(score @ inside), float(score @ outside)
        yield row("score inside", on, exact=-1 / (signal * lam2 + noise), printed=-1 / lam2, t=t)
        yield row("score outside", off, exact=-1 / noise, printed=-1 / noise, t=t)
        ours = problem.target_score(x, t)
        apart = float(jnp.max(jnp.abs(ours - score)) / jnp.max(jnp.abs(score)))
        yield row("score of the library", apart, exact=0.0, t=t)


def _lipschitz(s: dict[str, Any]) -> Iterator[Row]:
    """The latent score's Lipschitz constant at t = 0, and its largest value over t."""
    latent = fsd.GaussianLatent.create(s["d"], s["lam2"])

    def norm(t: float) -> float:
        jacobian = jax.jacobian(lambda z: latent.score(z, t))(jnp.ones(s["d"]))
        return float(np.linalg.norm(np.asarray(jacobian), 2))

    yield row("Lipschitz at 0", norm(0.0), exact=1 / min(s["lam2"]), printed=max(s["lam2"]))
    times = np.concatenate([[0.0], np.geomspace(1e-3, 10, 30)])
    yield row(
        "Lipschitz over t", max(norm(float(t)) for t in times), exact=max(1.0, 1 / min(s["lam2"]))
    )


def _constant(s: dict[str, Any]) -> Iterator[Row]:
    """Section 3.2: the denoising loss less the score error is the same for every decoder."""
    problem, t = _problem(s), 0.5
    moment = fsd.SecondMoment.from_covariance(
        problem.A_ta @ problem.latent.second_moment() @ problem.A_ta.T
    )
    found, scores = [], []
    for i in range(4):
        V = jax.random.normal(jax.random.key(SEED + 10 + i), (s["D"], s["d"])) / 2
        score = fsd.LinearScore.from_decoder(V, latent_variance=1.0)
        loss = float(fsd.expected_loss(V, moment, latent_variance=1.0, time=t))
        found.append(loss - float(fsd.score_error(score, problem, time=t)))
        scores.append((score, loss))
    for i, value in enumerate(found):
        yield row("loss less score error", value, exact=found[0], decoder=i)
    score, _ = scores[0]
    x = problem.sample_target(jax.random.key(SEED + 20), 64)
    own = fsd.SecondMoment.from_samples(x, route="svd")
    V = jax.random.normal(jax.random.key(SEED + 10), (s["D"], s["d"])) / 2
    mean, stderr = fsd.monte_carlo_loss(
        jax.random.key(SEED + 21), score, x, time=t, draws=s["draws"] // 4
    )
    yield row(
        "loss by drawing the noise",
        float(mean),
        stderr=float(stderr),
        exact=float(fsd.expected_loss(V, own, latent_variance=1.0, time=t)),
    )


def _reverse(s: dict[str, Any]) -> Iterator[Row]:
    """Section 3.1's reverse drift with both signs: the variance that comes out, exact score."""
    del s
    lam2, T, delta, steps = 0.25, 8.0, 1e-3, 200_000
    times = np.linspace(T, delta, steps + 1)
    truth = np.exp(-times) * lam2 - np.expm1(-times)
    ends = {}
    for sign in (-1, 1):
        variance = 1.0
        # dY = (sign f(Y) + score) dt + dB with f(y) = -y/2; Heun's rule on the variance's equation.
        for k in range(steps):
            h = times[k] - times[k + 1]
            first = 2 * (-sign * 0.5 - 1 / truth[k]) * variance + 1
            guess = variance + h * first
            second = 2 * (-sign * 0.5 - 1 / truth[k + 1]) * guess + 1
            variance += h * (first + second) / 2
        ends[sign] = variance
    yield row("reverse variance", ends[-1], exact=float(truth[-1]), printed=ends[1])


def _divergence(s: dict[str, Any]) -> Iterator[Row]:
    """The KL divergence of two isotropic Gaussians: by drawing, by the library, as printed."""
    d, lam2, fitted = s["d"], 1.0, 1.5
    draw = np.random.default_rng(SEED)
    z = draw.normal(size=(s["draws"] * 10, d)) * lam2**0.5
    ratio = -0.5 * np.sum(z**2, axis=1) * (1 / lam2 - 1 / fitted) + d / 2 * np.log(fitted / lam2)
    laws = [
        fsd.ThinGaussian(
            mean=jnp.zeros(d),
            basis=jnp.eye(d),
            variance=jnp.full(d, v),
            residual_variance=jnp.ones(()),
        )
        for v in (lam2, fitted)
    ]
    yield row(
        "divergence",
        float(ratio.mean()),
        stderr=float(ratio.std(ddof=1) / len(ratio) ** 0.5),
        exact=float(fsd.gaussian_kl(*laws)),
        printed=float(d * (lam2 / fitted - np.log(lam2 / fitted) - 1)),
    )


def _accuracy(s: dict[str, Any]) -> Iterator[Row]:
    """Theorem 4.3: the least n_ta that meets Lemma B.1's condition, by either eps."""
    del s
    for d, n_s in ((1, 10**6), (2, 10**8)):
        least = [_least(d, n_s, power) for power in (-0.25, -0.5)]
        stated = theory.samples_by_rule(n_s=n_s, latent_dim=d, rule="stated")
        yield row("least n_ta", least[0], exact=stated, printed=least[1], d=d, n_s=n_s)


def _least(d: int, n_s: int, power: float) -> int:
    def met(n: int) -> bool:
        return theory.lemma_b_1(
            latent_dim=d,
            n_s=n_s,
            accuracy=float(n) ** power,
            beta=1.0,
            second_moment=1.0,
            least_eigenvalue=1.0,
        ).valid

    low, high = 0, 1
    while not met(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle, high)
    return high


def _coefficient(s: dict[str, Any]) -> Iterator[Row]:
    """Remark 4.4: the coefficients at D = 256 x 256 x 3 and delta = 1e-3, over d^3."""
    del s
    D, delta, T, d = 256 * 256 * 3, 1e-3, 10.0, 25
    terms = theory.theorem_4_3(
        latent_dim=d,
        ambient_dim=D,
        n_ta=1,
        n_s=3,
        beta=1.0,
        second_moment=float(d),
        least_eigenvalue=1.0,
        delta=delta,
        T=T,
        failure=float(np.exp(-1)),
    ).terms
    # Undone: the factors that the remark leaves out, (1 + beta)^2/(T - delta).
    yield row(
        "coefficient D/delta",
        terms["target"] * (T - delta) / 4 / d**3,
        exact=D / delta,
        printed=PRINTED_COEFFICIENT,
    )
    yield row("coefficient 1/delta^2", 1 / delta**2, exact=1e6, printed=1e6)


def _level(s: dict[str, Any]) -> Iterator[Row]:
    """Theorem 5.2's last step: || (m^2 lambda^2 AA' + s2 I) X ||^2 over || X ||^2, X inside A."""
    t, d = 0.1, s["d"]
    draw = np.random.default_rng(SEED)
    A = np.linalg.qr(draw.normal(size=(s["D"], d)))[0]
    inner = draw.normal(size=(d, d))
    X = A @ (inner + inner.T) @ A.T
    signal, noise = _levels(t)
    for lam2 in (0.1, 1.0, 10.0):
        level = signal * lam2 + noise
        S = signal * lam2 * A @ A.T + noise * np.eye(s["D"])
        yield row(
            "last step",
            float(np.sum((S @ X) ** 2) / np.sum(X**2)),
            exact=level**2,
            printed=level,
            lam2=lam2,
        )


def _schedule(s: dict[str, Any]) -> Iterator[Row]:
    """The footnote of Section 3.1: a rate beta_t only rescales time in the closed form."""
    problem = _problem(s)
    moment = fsd.SecondMoment.from_samples(problem.sample_target(jax.random.key(3), 20))
    process = fsd.VP.linear(0.1, 20.0)
    own, plain = (
        fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=s["d"], time=t, process=p).gains
        for t, p in ((0.3, process), (float(process.integrated_rate(0.3)), fsd.VP()))
    )
    yield row("rescaled time", float(jnp.max(jnp.abs(own - plain))), exact=0.0)


def _class(s: dict[str, Any]) -> Iterator[Row]:
    """Section 5's objective is the loss of Section 3.2: its simplified form, by drawing."""
    problem, t = _problem(s), 0.5
    signal, noise = _levels(t)
    draw = np.random.default_rng(SEED)
    x = np.asarray(problem.sample_target(jax.random.key(4), 32))
    V = draw.normal(size=(s["D"], s["d"])) / 2
    g = signal / (signal + noise)
    means = np.empty(s["draws"] // 4)
    for i in range(means.size):
        noised = signal**0.5 * x + noise**0.5 * draw.normal(size=x.shape)
        means[i] = np.mean(np.sum((noised @ (g * V @ V.T) - signal**0.5 * x) ** 2, axis=1))
    moment = fsd.SecondMoment.from_samples(jnp.asarray(x), route="svd")
    exact = float(fsd.expected_loss(jnp.asarray(V), moment, latent_variance=1.0, time=t))
    yield row(
        "simplified objective",
        float(means.mean() / noise**2),
        exact=exact,
        stderr=float(means.std(ddof=1) / means.size**0.5 / noise**2),
    )


SHOWN = {
    "score inside": r"Section 5: factor of the latent score, $\lambda^2 = 2$",
    "Lipschitz at 0": r"Lemma C.1: Lipschitz constant, $\lambda_k^2$ = 4, 1, 1/2",
    "Lipschitz over t": r"Assumption 4.2: $\beta$ over all $t$",
    "reverse variance": r"Section 3.1: variance after the reverse process",
    "divergence": r"Theorem 5.2: KL of two Gaussians",
    "least n_ta": r"Theorem 4.3: least $n_{ta}$ for the accuracy",
    "coefficient D/delta": r"Remark 4.4: $D/\delta$",
    "last step": r"Theorem 5.2: factor of the last step",
    "loss by drawing the noise": "Section 3.2: loss, by drawing the noise",
    "simplified objective": "Section 5.1: simplified objective",
    "C_Z": r"Assumption 4.1: $C_Z$",
    "c_0": r"Assumption 4.1: $c_0$",
}
PARAMETERS = {"t": "$t$", "lam2": r"$\lambda^2$", "d": "$d$", "n_s": "$n_s$"}


def draw(table: Table) -> Any:
    """A table: measured, exact, printed."""
    lines = []
    for series, label in SHOWN.items():
        for r in table.present(series=series):
            where = ", ".join(f"{w} = {r[k]:g}" for k, w in PARAMETERS.items() if k in r)
            measured = f"{r['value']:.5g}"
            if r["stderr"]:
                measured += f" ± {2 * r['stderr']:.1g}"
            others = ("–" if r.get(k) is None else f"{r[k]:.5g}" for k in ("exact", "printed"))
            lines.append([label + (f"; {where}" if where else ""), measured, *others])
    figure, axes = style.canvas(figsize=(9.6, 0.9 + 0.27 * len(lines)))
    style.text_table(
        axes[0, 0],
        ["", "measured (2 s.e.)", "ours", "printed"],
        lines,
        widths=(0.5, 0.2, 0.15, 0.15),
    )
    axes[0, 0].set_title("One number decides", loc="left", pad=14)
    return figure
