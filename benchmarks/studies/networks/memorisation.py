"""Does tuning everything memorise? The exact optimum against n_ta, and networks along training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.judging import SIGMAS, Statement, Verdict, judged
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work, estimated, mean
from benchmarks.table import Table
from fsd_jax import latent_net, sampler
from fsd_jax.image import metrics
from fsd_jax.latent_net._descent import denoising_losses

EXACT, TRAINED = "latent Gaussian, exact", "Gaussian mixture"
METHODS = {
    "everything": "everything tuned (exact optimum)",
    "encoder_decoder": "encoder and decoder tuned",
    "real": "fresh samples of the target",
}
NETWORKS = {"everything": "everything tuned", "V only": "V only, 2000 steps", "truth": "fresh ones"}
LEVELS = (
    ("V only", "--", "a network, V only tuned"),
    ("truth", ":", "fresh samples of the mixture"),
)
LABELS = {
    "f_mem": "share that copies a target sample",
    "nearest_distance": "distance to the nearest target sample",
}
MEASURES = {"f_mem": metrics.memorised_fraction, "nearest_distance": metrics.nearest_distance}
DTYPE = "float32"
COPIES, NEW = 0.9, 0.1
"""Who memorises, and who does not: shares of generated samples that copy a target sample."""


def settings(size: str) -> Settings:
    """A world with exact laws, a latent Gaussian without noise; and one for networks."""
    quick, full = size == "quick", size == "full"
    steps = [0, 100, 300, 1000, 3000, 10_000, 30_000, 100_000]
    return {
        "D": 32,
        "d": 8,
        "n_s": 2000,
        "n_ta": [8] if quick else [2, 4, 8, 16, 32, 64, 128, 512],
        "samples": 400 if quick else 4000,
        "steps": 60 if quick else 200,
        "delta": 1e-3,
        "T": 10.0,
        "networks": {
            "n_s": 4096,
            "n_ta": 10,
            "worlds": 1 if quick else 10 if full else 3,
            "training": [0, 100] if quick else steps if full else steps[:6],
            "samples": 200 if quick else 4000 if full else 1000,
            "pretraining": 300 if quick else 20_000 if full else 5000,
            "solver_steps": 100,
        },
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Both worlds."""
    yield from _exact(settings, work)
    yield from _trained(settings, work)


def _exact(s: Settings, work: Work) -> Iterator[Record]:
    """Samples of either score by the same noise, and fresh ones."""
    world, source, target, fresh, noise = jax.random.split(jax.random.key(work.seed), 5)
    problem = fsd.LinearProblem.random(
        world, ambient_dim=s["D"], latent_dim=s["d"], latent_variance=1.0
    )
    pretrained = fsd.pretrain(problem.sample_source(source, s["n_s"]), latent_dim=s["d"])
    pool = problem.sample_target(target, max(s["n_ta"]))
    real = np.asarray(problem.sample_target(fresh, s["samples"]))
    times = fsd.geometric_grid(s["delta"], s["T"], s["steps"])
    for n in s["n_ta"]:
        work.tell(f"n_ta = {n}")
        shots = pool[:n]
        scores: dict[str, Any] = {
            "everything": fsd.EmpiricalScore.from_samples(shots),
            "encoder_decoder": fsd.finetune(pretrained, shots).linear,
        }
        drawn = {"real": real} | {
            name: np.asarray(
                fsd.sampler.sample(
                    noise, score, times=times, n=s["samples"], shape=s["D"], denoise=True
                )
            )
            for name, score in scores.items()
        }
        for name, x in drawn.items():
            for metric, measure in MEASURES.items():
                found = measure(x, np.asarray(shots))
                own = {"method": name, "metric": metric, "n_ta": n}
                yield record(EXACT, **estimated(found), **own)


@dataclass(frozen=True, kw_only=True)
class World:
    """One world in which networks are tuned, and how their samples are measured."""

    number: int
    problem: fsd.LinearProblem
    target: jax.Array
    key: jax.Array
    settings: Settings
    seed: int

    def measures(
        self, method: str, steps: int, drawn: jax.Array, losses: jax.Array | None = None
    ) -> Iterator[Record]:
        """Every measure of these samples."""
        s, samples, train = self.settings["networks"], np.asarray(drawn), np.asarray(self.target)
        found = {
            name: measure(samples, train, seed=self.seed) for name, measure in MEASURES.items()
        }
        if losses is not None:
            found["heldout_loss"] = metrics.mean_of(np.asarray(losses, float), seed=self.seed)
        own: dict[str, Any] = {name: self.settings[name] for name in ("d", "D")}
        own |= {"n_s": s["n_s"], "n_ta": s["n_ta"], "world": self.number, "steps": steps}
        for metric, estimate in found.items():
            value = {"value": estimate.value, "stderr": estimate.stderr}
            yield record(TRAINED, method=method, metric=metric, **value | own)

    def of_model(self, method: str, steps: int, model: latent_net.NetModel) -> Iterator[Record]:
        """Measures of a network's samples, all from the same noise."""
        s = self.settings
        delta, T, size = s["delta"], s["T"], s["networks"]["samples"]
        times = fsd.geometric_grid(delta, T, s["networks"]["solver_steps"])
        drawn = sampler.sample(
            self.key,
            model.score,
            times=times.astype(DTYPE),
            n=size,
            shape=s["D"],
            method="ei_sde",
            denoise=True,
        )
        fresh = self.problem.sample_target(jax.random.fold_in(self.key, 1), size)
        clock, noise = jax.random.split(jax.random.fold_in(self.key, 2))
        t = delta * jnp.exp(np.log(T / delta) * jax.random.uniform(clock, (size,), DTYPE))
        xi = jax.random.normal(noise, (size, s["d"]), DTYPE)
        losses = denoising_losses(model.score.decoder, model.score.net, fresh, t, xi)
        yield from self.measures(method, steps, drawn, losses)


def _trained(settings: Settings, work: Work) -> Iterator[Record]:
    """Measures after each number of steps, for the same draws of worlds and noise."""
    s, d = settings["networks"], settings["d"]
    recipe = latent_net.Recipe(steps=s["pretraining"], batch_size=128)
    for number in range(s["worlds"]):
        work.tell(f"world {number}: pre-training")
        keys = jax.random.split(jax.random.fold_in(jax.random.key(work.seed), number), 7)
        law = latent_net.random_mixture(keys[0], d, dtype=DTYPE)
        problem = fsd.LinearProblem.with_latent(keys[1], law, ambient_dim=settings["D"])
        source = problem.sample_source(keys[2], s["n_s"])
        target = problem.sample_target(keys[3], s["n_ta"])
        world = World(
            number=number,
            problem=problem,
            target=target,
            key=keys[6],
            settings=settings,
            seed=work.seed,
        )
        yield from world.measures("truth", 0, problem.sample_target(keys[4], s["samples"]))
        model = latent_net.pretrain(keys[5], source, latent_dim=d, recipe=recipe)
        few = latent_net.finetune(keys[6], model, target, recipe=replace(recipe, steps=2000))
        yield from world.of_model("V only", 2000, few)
        for steps in s["training"]:
            work.tell(f"world {number}, {steps} steps")
            tuned = few
            if steps:
                whole = replace(recipe, steps=steps, checks=1, held_out=0.0)
                tuned = latent_net.finetune(keys[6], few, target, mode="everything", recipe=whole)
            yield from world.of_model("everything", steps, tuned)


def averaged(table: Table, metric: str) -> list[Record]:
    """Networks' measures, means over worlds."""
    rows = table.present(data=TRAINED, metric=metric)
    kinds = dict.fromkeys((r["method"], r["steps"]) for r in rows)
    return [
        {"method": method, "steps": steps, "metric": metric, "unit": ""}
        | mean(r["value"] for r in rows if (r["method"], r["steps"]) == (method, steps))
        for method, steps in kinds
    ]


def draw(table: Table) -> Any:
    """Both measures against n_ta with their bootstrap intervals, and along networks' training."""
    figure, axes = drawing.canvas(2, 2, figsize=(10, 8))
    for axis, (metric, label) in zip(axes[0], LABELS.items(), strict=True):
        for place, (method, name) in enumerate(METHODS.items()):
            rows = table.present(data=EXACT, metric=metric, method=method)
            # A bootstrap interval need not contain its estimate exactly.
            ends = [(max(r["value"] - r["low"], 0), max(r["high"] - r["value"], 0)) for r in rows]
            if rows:
                axis.errorbar(
                    [r["n_ta"] for r in rows],
                    [r["value"] for r in rows],
                    yerr=np.array(ends).T,
                    capsize=2,
                    mfc="none",
                    label=name,
                    **drawing.STYLES[place],
                )
        drawing.log_axes(axis, "n_ta", label, "Exact optima, latent Gaussian", up="linear")
        sizes = table.settings["n_ta"]
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.set_ylim(bottom=-0.03)
    for axis, (metric, label) in zip(axes[1], LABELS.items(), strict=True):
        found = averaged(table, metric)
        own = [r for r in found if r["method"] == "everything"]
        drawing.points(axis, own, "steps", 3, line=True, label="a network, everything tuned")
        for method, dash, words in LEVELS:
            for r in (r for r in found if r["method"] == method):
                axis.axhline(r["value"], ls=dash, color="0.4", label=words)
        title = f"Networks, n_ta = {table.settings['networks']['n_ta']}, means over worlds"
        drawing.log_axes(axis, "training steps", label, title, across="symlog", up="linear")
        axis.set_xscale("symlog", linthresh=100)
        axis.set_ylim(bottom=-0.03)
    drawing.legend_below(figure, axes, 3)
    return figure


def memorises(table: Table) -> Verdict:
    """Confirmed if everything tuned copies for every n_ta, and encoder and decoder as the truth."""
    rows = {name: table.select(data=EXACT, metric="f_mem", method=name) for name in METHODS}
    copied, new, real = rows.values()
    fewest = min(copied, key=lambda r: r["value"])
    most = max(new, key=lambda r: r["value"])
    like = all(_alike(a, b) for a, b in zip(new, real, strict=True))
    sizes = ", ".join(str(r["n_ta"]) for r in copied)
    words = (
        f"latent Gaussian, n_ta = {sizes}: with everything tuned at least {fewest['value']:.0%} of "
        f"the samples copy a target sample [{fewest['low']:.2f}, {fewest['high']:.2f}], with "
        f"encoder and decoder at most {most['value']:.1%} [{most['low']:.3f}, {most['high']:.3f}], "
        f"fresh samples of the target at most {max(r['value'] for r in real):.1%}"
    )
    printed = fewest["low"] > COPIES
    shares = all(0 <= r["value"] <= 1 for own in rows.values() for r in own)
    return judged(fewest, words, printed=printed, ours=printed and like and shares)


def _alike(new: Record, real: Record) -> bool:
    error = (new["stderr"] ** 2 + real["stderr"] ** 2) ** 0.5
    return bool(new["value"] - real["value"] <= SIGMAS * error + NEW)


def finding(table: Table) -> str:
    """Shares of copies by every way to tune, for the exact optimum and for networks."""
    n = table.settings["n_ta"][0]
    rows = {name: table.one(data=EXACT, metric="f_mem", method=name, n_ta=n) for name in METHODS}
    words = {
        name: f"{r['value']:.1%} [{r['low']:.1%}, {r['high']:.1%}]" for name, r in rows.items()
    }
    said = (
        f"Of samples from {n} target samples, {words['everything']} are copies with everything "
        f"tuned, {words['encoder_decoder']} with encoder and decoder tuned, {words['real']} of "
        "fresh ones"
    )
    trained = [r for r in averaged(table, "f_mem") if r["method"] == "everything"]
    if trained:
        last = max(trained, key=lambda r: r["steps"])
        error = "" if last["stderr"] is None else f" +- {last['stderr']:.1%}"
        said += (
            f"; a network, all tuned for {last['steps']} steps, copies {last['value']:.1%}{error}"
        )
    return said + "."


def lines(table: Table) -> text.Lines:
    """A line for each method and n_ta or number of steps, a column a measure."""
    rows = [
        r | {"data": METHODS[r["method"]], "at": f"n_ta = {r['n_ta']}"}
        for r in table.present(data=EXACT)
    ]
    for metric in (*MEASURES, "heldout_loss"):
        rows += [
            r | {"data": f"network: {NETWORKS[r['method']]}", "at": f"{r['steps']} steps"}
            for r in averaged(table, metric)
        ]
    # Not every n_ta: the terminal has no room.
    ends = {f"n_ta = {n}" for n in sorted(table.settings["n_ta"])[1:-1]}
    shown = [r for r in rows if r["at"] not in ends]
    return text.pivot(shown, ("data", "at"), lambda row: row["metric"], text.short)


STUDY = Study(
    name="memorisation",
    figure="memorisation",
    summary="share of generated samples that copy a target sample, against n_ta and training steps",
    settings=settings,
    compute=compute,
    pictures={"memorisation": draw},
    lines=lines,
    finding=finding,
    # Several programs to compile: a quick run has it only if it is named.
    quick=False,
    long=True,
    statements=(
        Statement(
            name="Section 4.1, memorisation",
            place="4.3 Section 4.1",
            says="Fine-tuning everything memorises the target samples; tuning encoder and decoder "
            "does not",
            function="fsd_jax.EmpiricalScore",
            test="tests/image/test_closed_form.py::"
            "test_everything_tuned_copies_and_encoder_and_decoder_do_not",
            rule=memorises,
        ),
    ),
)
