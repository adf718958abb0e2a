"""Section 6 in closed form: tune everything, or encoder and decoder only? Pictures and measures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import table
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax.image import closed_form, data, metrics
from fsd_jax.image.classify import TargetClassifier
from fsd_jax.image.task import ImageTask

SUMMARY = "everything tuned against encoder and decoder only, on drawn faces and on garments"
DATA = ("avatars", "critters", "fashion-boots", "fashion-shirts")
SHOTS = 10
LATENT_DIM = 32
FEATURES = 16
SHOWN = 10
TIMES = (0.01, 0.1, 1.0)
Chosen = dict[str, dict[str, float]]
METHODS = (
    "everything",
    "encoder_decoder",
    "encoder_decoder_empirical",
    "rehearsed",
    "rehearsed_any_mean",
    "rank",
    "scratch",
    "source",
    "source_target_mean",
)
METRICS = (
    "f_mem",
    "target_share",
    "nearest_distance",
    "nearest_feature_distance",
    "diversity",
    "heldout_loss",
    *(f"heldout_loss_at_{t:g}" for t in TIMES),
    "frechet",
    "kernel_distance",
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same for all draws of the target images of one data set."""

    name: str
    source: np.ndarray
    pool: np.ndarray
    pretrained: fsd.PretrainedModel
    moment: fsd.SecondMoment
    features: metrics.Features
    classifier: TargetClassifier
    samples: int
    steps: int
    seed: int

    def drawn(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One draw of the target images, by its number, and 200 others of the target."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.pool))
        return self.pool[order[:SHOTS]], self.pool[order[SHOTS:][:200]]


def run(context: Context) -> Iterator[Record]:
    """Yield every measure of every method, the means of several draws of the target images."""
    for name, load in _tasks(context).items():
        try:
            task = load()
        except (ImportError, FileNotFoundError) as error:
            yield record("images", name, "all", "f_mem", None, status=f"skipped: {error}")
            continue
        context.tell(f"images {task.name}: pre-training")
        setting = setting_of(
            task,
            samples=context.pick(48, 100, 400),
            steps=context.pick(20, 60, 100),
            seed=context.seed,
        )
        yield from _real(setting)
        yield from _study(context, setting)


def _tasks(context: Context) -> dict[str, Callable[[], ImageTask]]:
    source, heldout = context.pick((240, 200), (1000, 500), (6400, 1000))
    size = context.pick(28, 32, 64)

    def drawn(draw: Callable[..., ImageTask]) -> Callable[[], ImageTask]:
        def load() -> ImageTask:
            tell = lambda done, total: context.tell(f"images: drawing {done} of {total}")
            return draw(size=size, source=source, shots=SHOTS, heldout=heldout, progress=tell)

        return load

    known: dict[str, Callable[[], ImageTask]] = {
        "avatars": drawn(data.avatars),
        "critters": drawn(data.critters),
        "fashion-boots": partial(data.fashion, target="boots"),
        "fashion-shirts": partial(data.fashion, target="shirts"),
    }
    return {name: known[name] for name in context.data or DATA[: context.pick(1, 2, 4)]}


def setting_of(task: ImageTask, *, samples: int, steps: int, seed: int) -> Setting:
    """Pre-train on a data set's source, and fit what measures need."""
    source = task.source.astype(np.float32)
    # The last images train the classifier and are used for nothing else.
    mine = min(len(task.pool) // 2, 1000)
    flat = source.reshape(len(source), -1)
    moment = fsd.SecondMoment.from_samples(flat, rank=2 * LATENT_DIM, centre=True)
    return Setting(
        name=task.name,
        source=source,
        pool=task.pool[:-mine],
        pretrained=fsd.pretrain(moment, latent_dim=LATENT_DIM),
        moment=moment,
        features=metrics.Features.fit(moment, FEATURES),
        classifier=TargetClassifier.fit(
            source[:2000], task.pool[-mine:], features=metrics.Features.fit(moment, 2 * LATENT_DIM)
        ),
        samples=samples,
        steps=steps,
        seed=seed,
    )


def _scores(setting: Setting, shots: np.ndarray) -> tuple[dict[str, Any], Chosen]:
    """The score of every method, and the shares that leave-one-out chose for rehearsal."""
    pretrained = setting.pretrained
    _, _, losses = closed_form.choose_rehearsal(pretrained, setting.moment, shots)
    shares, any_mean = _best(losses[:, -1:]), _best(losses)
    rehearse = partial(closed_form.rehearse, pretrained, setting.moment, shots)
    tuned = fsd.finetune(pretrained, shots).linear
    scores = {
        "everything": fsd.EmpiricalScore.from_samples(shots),
        "encoder_decoder": tuned,
        "encoder_decoder_empirical": closed_form.with_source_latents(
            tuned, pretrained, setting.source
        ),
        "rehearsed": rehearse(source_share=shares[0], mean_share=1.0),
        "rehearsed_any_mean": rehearse(source_share=any_mean[0], mean_share=any_mean[1]),
        "rank": fsd.finetune(pretrained, shots, constraint="rank").linear,
        "scratch": fsd.target_only(shots, latent_dim=LATENT_DIM).linear,
        "source": fsd.source_as_is(pretrained, shots, mean="source").linear,
        "source_target_mean": fsd.source_as_is(pretrained, shots).linear,
    }
    chosen = {
        "rehearsed": {"source_share": shares[0], "mean_share": 1.0},
        "rehearsed_any_mean": {"source_share": any_mean[0], "mean_share": any_mean[1]},
    }
    return scores, chosen


def _best(losses: np.ndarray) -> tuple[float, float]:
    """The shares with the least loss; the last column is the target's own mean."""
    i, j = np.unravel_index(np.argmin(losses), losses.shape)
    return closed_form.SOURCE_SHARES[i], closed_form.MEAN_SHARES[j]


def measure(
    setting: Setting, drawn: np.ndarray, shots: np.ndarray, held: np.ndarray
) -> dict[str, metrics.Estimate]:
    """Every measure of generated images that needs no score."""
    features = setting.features
    images = np.clip(drawn, 0, 1)
    return {
        "f_mem": metrics.memorised_fraction(images, shots),
        "target_share": setting.classifier.share(images),
        "nearest_distance": metrics.nearest_distance(images, shots),
        "nearest_feature_distance": metrics.nearest_distance(features(images), features(shots)),
        "diversity": metrics.diversity(images),
        "frechet": metrics.frechet_distance(features(images), features(held)),
        "kernel_distance": metrics.kernel_distance(features(images), features(held)),
    }


def _study(context: Context, setting: Setting) -> Iterator[Record]:
    draws = context.pick(2, 4, 8)
    found: dict[tuple[str, str], list[metrics.Estimate]] = {}
    chosen: list[Chosen] = []
    key = jax.random.key(setting.seed)
    for draw in range(draws):
        context.tell(f"images {setting.name}: draw {draw + 1} of {draws}")
        shots, held = setting.drawn(draw)
        scores, shares = _scores(setting, shots)
        chosen.append(shares)
        rows: dict[str, np.ndarray] = {}
        for name, score in scores.items():
            one = jax.random.fold_in(key, draw)
            drawn = closed_form.generate(
                one, score, setting.samples, shape=shots.shape[1:], steps=setting.steps
            )
            rows[name] = drawn[:SHOWN]
            measured = measure(setting, drawn, shots, held) | _losses(one, score, held)
            for metric, estimate in measured.items():
                found.setdefault((name, metric), []).append(estimate)
        if draw == 0:
            _store(context, setting.name, shots, rows)
    yield from _summaries(setting, found, chosen)


def _losses(key: jax.Array, score: Any, held: np.ndarray) -> dict[str, metrics.Estimate]:
    """Held-out loss integrated over t, and at single times."""
    times, weights = map(np.asarray, fsd.VP().quadrature(nodes=16))
    each = closed_form.heldout_losses(key, score, held, times=np.append(times, TIMES))
    found = {"heldout_loss": metrics.mean_of(each[:, : len(times)] @ weights)}
    for i, t in enumerate(TIMES):
        found[f"heldout_loss_at_{t:g}"] = metrics.mean_of(each[:, len(times) + i])
    return found


def _summaries(
    setting: Setting,
    found: dict[tuple[str, str], list[metrics.Estimate]],
    chosen: list[Chosen],
) -> Iterator[Record]:
    for (method, metric), each in found.items():
        values = np.array([estimate.value for estimate in each])
        rival = np.array([estimate.value for estimate in found["source_target_mean", metric]])
        draws = len(values)
        extra: dict[str, Any] = {}
        if method in chosen[0]:
            shares = [c[method] for c in chosen]
            extra = {name: float(np.mean([s[name] for s in shares])) for name in shares[0]}
        yield record(
            "images",
            setting.name,
            method,
            metric,
            float(values.mean()),
            stderr=_stderr(values),
            draws=draws,
            n_ta=SHOTS,
            d=LATENT_DIM,
            D=setting.pool[0].size,
            n_s=len(setting.source),
            samples=setting.samples,
            bootstrap_stderr=float(np.mean([estimate.stderr for estimate in each])),
            over_source=float((values - rival).mean()),
            over_source_stderr=_stderr(values - rival),
            **extra,
        )


def _stderr(values: np.ndarray) -> float:
    """Of the mean over draws of the target images."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


def _real(setting: Setting) -> Iterator[Record]:
    """What real target images measure, and how often the classifier is right."""
    where = dict(d=LATENT_DIM, D=setting.pool[0].size, n_s=len(setting.source))
    accuracy = setting.classifier.accuracy
    yield record(
        "images",
        setting.name,
        "real",
        "classifier_accuracy",
        accuracy.value,
        stderr=accuracy.stderr,
        **where,
    )
    half = min((len(setting.pool) - SHOTS) // 2, 200)
    shots, one = setting.pool[:SHOTS], setting.pool[SHOTS : SHOTS + half]
    for metric, estimate in measure(
        setting, one, shots, setting.pool[SHOTS + half : SHOTS + 2 * half]
    ).items():
        yield record(
            "images",
            setting.name,
            "real",
            metric,
            estimate.value,
            stderr=estimate.stderr,
            samples=half,
            **where,
        )


def _store(context: Context, name: str, shots: np.ndarray, rows: dict[str, np.ndarray]) -> None:
    """Keep target images and pictures drawn from the same noise."""
    everything = {"targets": shots, **rows}
    context.out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"row_{i}": row for i, row in enumerate(everything.values())}
    np.savez(context.out / f"images-{name}.npz", names=np.array(list(everything)), **arrays)


def lines(rows: list[Record]) -> table.Lines:
    """One line a method, one column a measure."""
    order = {name: i for i, name in enumerate((*METRICS, "classifier_accuracy"))}
    if any(row["value"] is None for row in rows):
        return table.plain(rows)
    shown = [row for row in rows if not row["metric"].startswith("heldout_loss_at")]
    known = sorted(shown, key=lambda row: order[row["metric"]])
    return table.pivot(known, ("method",), lambda row: row["metric"], table.short)
