"""Memorising: what is generated when everything is tuned, and when encoder and decoder are."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from fsd_jax.image import metrics
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "share of generated samples that copy a target sample, against n_ta"
LONG = True
IN_QUICK = False
"""Several programs to compile: a quick run has it only if it is named."""
METHODS = {
    "everything": "everything tuned (exact optimum)",
    "encoder_decoder": "encoder and decoder tuned",
    "real": "fresh samples of the target",
}


def settings(quick: bool) -> dict[str, Any]:
    """A world with exact laws: a latent Gaussian without noise."""
    return {
        "D": 32,
        "d": 8,
        "n_s": 2000,
        "n_ta": [8] if quick else [2, 4, 8, 16, 32, 64, 128, 512],
        "samples": 400 if quick else 4000,
        "steps": 60 if quick else 200,
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Samples of either score by the same noise, and fresh ones."""
    s = settings
    world, source, target, fresh, noise = jax.random.split(jax.random.key(SEED), 5)
    problem = fsd.LinearProblem.random(
        world, ambient_dim=s["D"], latent_dim=s["d"], latent_variance=1.0
    )
    pretrained = fsd.pretrain(problem.sample_source(source, s["n_s"]), latent_dim=s["d"])
    pool = problem.sample_target(target, max(s["n_ta"]))
    real = np.asarray(problem.sample_target(fresh, s["samples"]))
    times = fsd.geometric_grid(1e-3, 10.0, s["steps"])
    for n in s["n_ta"]:
        work.tell(f"memorisation n_ta = {n}")
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
                yield row(
                    metric,
                    found.value,
                    stderr=found.stderr,
                    low=found.low,
                    high=found.high,
                    method=name,
                    n_ta=n,
                )


MEASURES = {"f_mem": metrics.memorised_fraction, "nearest": metrics.nearest_distance}


def draw(table: Table) -> Any:
    """Both measures against n_ta, with their bootstrap intervals."""
    figure, axes = style.canvas(1, 2, figsize=(10, 4.3))
    titles = {
        "f_mem": (
            "share that copies a target sample",
            "Copies: nearest target sample closer\nthan a third of the second nearest",
        ),
        "nearest": ("distance to the nearest target sample", "How far new samples are from old"),
    }
    for axis, (metric, (label, title)) in zip(axes[0], titles.items(), strict=True):
        for place, (method, name) in enumerate(METHODS.items()):
            rows = table.present(series=metric, method=method)
            look = style.STYLES[place]
            # A bootstrap interval need not contain its estimate exactly.
            ends = np.array(
                [[max(r["value"] - r["low"], 0), max(r["high"] - r["value"], 0)] for r in rows]
            ).T
            axis.errorbar(
                [r["n_ta"] for r in rows],
                [r["value"] for r in rows],
                yerr=ends if rows else None,
                capsize=2,
                mfc="none",
                label=name,
                **look,
            )
        style.log_axes(axis, "n_ta", label, title, up="linear")
        sizes = table.settings["n_ta"]
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.minorticks_off()
        axis.set_ylim(bottom=-0.03)
        axis.legend()
    return figure
