"""Do networks transfer from MNIST's digits 1-9 to few zeros? Noise prediction on held-out ones."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Missing, Table
from fsd_jax import latent_net
from fsd_jax.image import data, metrics

DATA = "mnist 1-9 -> 0"
LATENT_DIM = 24
WIDTHS = (128, 128)
DELTA, T = 0.1, 10.0
"""Below `DELTA` a network's loss is the energy outside of its subspace, divided by ``sigma^2``."""
HELD_OUT = latent_net.Recipe(steps=1).held_out
"""Of the zeros, to tell networks when to stop."""
SHARES, MEAN_SHARES = (0.1, 0.5, 0.9), (0.0, 1.0)
"""Of the source and of the target's mean, for rehearsal to choose from."""
NODES = 12
SCRATCH = "scratch"
LINEAR = "linear: "
MSE, ALONE = "noise_mse", "noise_mse_as_is"
"""With the source's residual variance outside of the subspace, and networks without any."""
RATIO = "ratio_to_scratch"

Score = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known before the zeros come; pixels are centred at the source's mean.

    Attributes:
        network: pre-trained.
        linear: the linear model of the same data.
        moment: its second moment, with more directions than it uses.
    """

    network: latent_net.NetModel
    linear: fsd.PretrainedModel
    moment: fsd.SecondMoment


def settings(size: str) -> Settings:
    """Sizes; the smaller sets of zeros are first parts of the larger ones."""
    place = ("quick", "default", "full").index(size)
    return {
        "n_ta": [[10], [10, 30, 100], [10, 20, 30, 50, 100]][place],
        "draws": (2, 4, 16)[place],
        "heldout": (100, 400, 400)[place],
        "pretraining": {"steps": (200, 2000, 10_000)[place], "learning_rate": 1e-3},
        "finetuning": {"steps": (100, 600, 3000)[place]},
        "delta": DELTA,
        "T": T,
        "d": LATENT_DIM,
        "widths": list(WIDTHS),
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Each method's noise MSE on held-out zeros, and its ratio to scratch, draw by draw."""
    try:
        task = data.mnist()
    except ImportError as error:
        yield record(DATA, None, method="all", metric=MSE, status=f"skipped: {error}")
        return
    s = settings
    sizes, draws, held = s["n_ta"], s["draws"], s["heldout"]
    pretraining, recipe = (
        latent_net.Recipe(**s[name], delta=DELTA, T=T) for name in ("pretraining", "finetuning")
    )
    flat = task.source.reshape(len(task.source), -1)
    centre = flat.mean(axis=0)
    zeros = task.pool.reshape(len(task.pool), -1) - centre
    work.tell("pre-training")
    source = _source(work.seed, flat - centre, pretraining)
    found: dict[int, list[dict[tuple[str, str], float]]] = {n: [] for n in sizes}
    for draw in range(draws):
        order = np.random.default_rng((work.seed, draw)).permutation(len(zeros))
        fresh = zeros[order[-held:]]
        key = jax.random.fold_in(jax.random.key(work.seed), draw)
        # One shape is one compilation.
        shots = zeros[order[: max(sizes)]]
        for n in sizes:
            work.tell(f"draw {draw + 1} of {draws}, {n} zeros")
            scores = _scores(key, source, shots, n, recipe)
            tau2 = source.linear.residual_variance
            found[n].append(measured(jax.random.fold_in(key, 1), scores, fresh, tau2))
    own = dict(
        d=LATENT_DIM,
        D=zeros.shape[1],
        n_s=len(flat),
        heldout=held,
        delta=DELTA,
        T=T,
        steps=recipe.steps,
        pretraining_steps=pretraining.steps,
    )
    for n in sizes:
        yield from summaries(found[n], n_ta=n, draws=draws, **own)


def _source(seed: int, x: np.ndarray, recipe: latent_net.Recipe) -> Source:
    # What chooses the step comes first, and the digits come sorted.
    x = x[np.random.default_rng(seed).permutation(len(x))]
    key = jax.random.key(seed)
    return Source(
        network=latent_net.pretrain(key, x, latent_dim=LATENT_DIM, widths=WIDTHS, recipe=recipe),
        linear=fsd.pretrain(x, latent_dim=LATENT_DIM),
        moment=fsd.SecondMoment.from_samples(x, rank=2 * LATENT_DIM, centre=True),
    )


def _scores(
    key: jax.Array, source: Source, shots: np.ndarray, n: int, recipe: latent_net.Recipe
) -> dict[str, Score]:
    """Every method's score after `n` zeros; the names go into the records."""

    def tuned(model: latent_net.NetModel, mode: str) -> latent_net.NetModel:
        return latent_net.finetune(key, model, shots, count=n, mode=mode, recipe=recipe)

    rotation = tuned(source.network, "rotation")
    alone = latent_net.pretrain(
        key, shots, count=n, latent_dim=min(LATENT_DIM, n), widths=WIDTHS, recipe=recipe
    )
    networks = {
        "source": source.network,
        "rotation": rotation,
        "everything": tuned(rotation, "everything"),
        "everything from the source": tuned(source.network, "everything"),
        SCRATCH: tuned(source.network, "scratch"),
        "target alone": alone,
    }
    linear, few = source.linear, shots[:n]
    lines = {
        "source": fsd.source_as_is(linear, few, mean="source").linear,
        "few-shot": fsd.finetune(linear, few).linear,
        "few-shot, source's mean": fsd.finetune(linear, few, mean="source").linear,
        "rehearsal": _rehearsal(key, source, few),
        "target only": fsd.target_only(few, latent_dim=LATENT_DIM).linear,
    }
    scores: dict[str, Score] = {name: model.score for name, model in networks.items()}
    return scores | {LINEAR + name: score for name, score in lines.items()}


def _rehearsal(key: jax.Array, source: Source, few: np.ndarray) -> fsd.LinearScore:
    """The shares that do best on the zeros that also tell networks when to stop."""
    held = max(int(HELD_OUT * len(few)), 1)

    def fitted(x: np.ndarray, shares: tuple[float, float]) -> fsd.LinearScore:
        share, mean_share = shares
        return fsd.rehearse(
            source.linear, source.moment, x, source_share=share, mean_share=mean_share
        )

    def loss(shares: tuple[float, float]) -> float:
        return noise_mse(key, fitted(few[held:], shares), few[:held])

    return fitted(few, min(itertools.product(SHARES, MEAN_SHARES), key=loss))


def measured(
    key: jax.Array, scores: dict[str, Score], x: np.ndarray, residual_variance: Any
) -> dict[tuple[str, str], float]:
    """Both measures of every score, on the same noise."""
    found = {}
    for name, score in scores.items():
        if isinstance(score, latent_net.NetScore):
            found[name, ALONE] = noise_mse(key, score, x)
            found[name, MSE] = noise_mse(key, completed(score, residual_variance), x)
        else:
            found[name, MSE] = noise_mse(key, score, x)
    return found


def noise_mse(key: jax.Array, score: Score, x: np.ndarray) -> float:
    """``sigma_t^2 |s + eps/sigma_t|^2/D`` over samples, and times uniform in ``log t``."""
    times = DELTA * (T / DELTA) ** ((np.arange(NODES) + 0.5) / NODES)
    losses = metrics.denoising_losses(key, score, x, times=times.astype(x.dtype))
    _, noise = fsd.VP().host_variances(times)
    return float(np.mean(losses * noise) / x.shape[1])


def completed(score: latent_net.NetScore, residual_variance: Any) -> fsd.DecodedScore:
    """A network's score with a Gaussian of this variance outside of its subspace."""
    ambient, d = score.decoder.shape
    dtype = score.decoder.dtype
    return fsd.DecodedScore(
        decoder=score.decoder,
        latent=latent_net.NetScore(decoder=jnp.eye(d, dtype=dtype), net=score.net),
        residual_variance=jnp.asarray(residual_variance, dtype),
        mean=jnp.zeros(ambient, dtype),
        process=score.net.process,
    )


def summaries(found: list[dict[tuple[str, str], float]], **own: Any) -> Iterator[Record]:
    """Means over draws; differences and ratios to scratch are taken draw by draw."""
    for method, metric in found[0]:
        values = np.array([one[method, metric] for one in found])
        scratch = np.array([one[SCRATCH, metric] for one in found])
        gain = mean(scratch - values)
        gains = {"gain": gain["value"], "gain_stderr": gain["stderr"]}
        yield record(DATA, method=method, metric=metric, **mean(values), **gains, **own)
        if method != SCRATCH:
            name = metric.replace(MSE, RATIO)
            yield record(DATA, method=method, metric=name, **mean(values / scratch), **own)


def draw(table: Table) -> Any:
    """Ratios to scratch against the number of zeros: networks, and the linear closed forms."""
    rows, ticks = table.present(metric=RATIO), table.settings["n_ta"]
    figure, axes = drawing.canvas(1, 2, figsize=(10.5, 5.6), sharey=True)
    for axis, linear in zip(axes[0], (False, True), strict=True):
        own = [r for r in rows if r["method"].startswith(LINEAR) == linear]
        methods = dict.fromkeys(r["method"] for r in own)
        for place, method in enumerate(methods):
            shown = [r for r in own if r["method"] == method]
            if len(ticks) == 1:
                shown = drawing.apart(shown, "n_ta", place, len(methods))
            label = method.removeprefix(LINEAR)
            drawing.points(axis, shown, "n_ta", place, line=True, label=label)
        axis.axhline(1.0, color="0.5", lw=0.8, label="a network from scratch")
        title = "Linear, closed form" if linear else "Networks"
        label = "noise error / that of a network from scratch"
        drawing.log_axes(axis, "n_ta", label if not linear else "", title, up="linear")
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.minorticks_off()
        drawing.legend_under(axis, 2)
    return figure


def finding(table: Table) -> str:
    """The best tuned network and the best linear form beside a network from scratch."""
    n = table.settings["n_ta"][0]
    rows = [r for r in table.present(metric=RATIO, n_ta=n) if r["method"] != "source"]
    best = {}
    for linear in (False, True):
        own = [r for r in rows if r["method"].startswith(LINEAR) == linear]
        if not own:
            raise Missing(f"{DATA}: ratios to scratch, n_ta = {n}")
        best[linear] = min(own, key=lambda r: r["value"])
    network, linear_form = best[False], best[True]
    return (
        f"{n} zeros of MNIST after digits 1-9: relative to a network trained on the zeros alone, "
        f"the best tuned network ({network['method']}) has {text.number(network)} of its noise "
        f"error, the best closed form ({linear_form['method'].removeprefix(LINEAR)}, linear) "
        f"{text.number(linear_form)}."
    )


def lines(table: Table) -> text.Lines:
    """A row for each method, a column for each number of zeros and measure."""
    lost = [text.line(r) for r in table.rows if r["value"] is None]
    rows = [r for metric in (MSE, RATIO) for r in table.present(metric=metric)]
    words = {MSE: "MSE", RATIO: "/scratch"}
    heading = lambda r: f"{words[r['metric']]}, {r['n_ta']}"
    return text.pivot(rows, ("method",), heading, text.short) + lost


STUDY = Study(
    name="digits",
    summary="MNIST 1-9 to 0: networks fine-tuned and from scratch beside the linear closed form",
    settings=settings,
    compute=compute,
    pictures={"digits": draw},
    lines=lines,
    finding=finding,
    quick=False,
    long=True,
    measured=("gain", "gain_stderr"),
)
