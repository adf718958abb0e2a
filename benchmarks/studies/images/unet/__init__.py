"""Section 6 with a U-Net: all of it tuned, or its rim only, measured along the way.

Two hours of training on two cores: the figure `u-net` shows the record of a run, and this is the
run.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import drawing, pictures, text
from benchmarks.records import PICTURES, Record, record
from benchmarks.studies.images.images.measuring import SHOTS, setting_of
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Missing, Table
from fsd_jax.image import data

DATA = ("avatars", "critters")
TITLES = {
    "targets": "the ten target images",
    "source": "source as is",
    "everything": "everything tuned",
    "encoder_decoder": "encoder and decoder tuned (first 4 blocks down, last 4 up)",
    "outermost": "outermost blocks tuned (first 1 down, last 1 up)",
    "real": "other images of the target",
    "closed_form": "closed form: linear encoder and decoder",
    "closed_form_wide": "closed form with 512 directions",
    "adapted": "adapted by leave-one-out",
    "exact_everything": "exact optimum of everything tuned",
}
PANELS = {
    "f_mem": "share that copies a target image",
    "target_share": "share with the target feature",
    "nearest_distance": "distance to the nearest of the ten",
    "heldout_loss": "held-out denoising loss",
}
TUNED = ("everything", "encoder_decoder", "outermost")
LEVELS = {
    "source": (0, (1, 1)),
    "real": (0, (3, 1, 1, 1)),
    "closed_form": (0, (7, 3)),
    "exact_everything": (0, (5, 1, 1, 1, 1, 1)),
}
QUICK: Settings = {
    "data": ["avatars"],
    "side": 16,
    "source": 100,
    "heldout": 200,
    "network": {"multipliers": [1, 2], "attention": [False, True], "blocks": 1},
    "pretrain": {"steps": 20},
    "finetune": {"steps": 20, "batch_size": 2},
    "marks": [10, 20],
    "draws": 1,
    "samples": 36,
    "steps": 5,
    "held": 4,
}
SMOOTH = {"times": "log"}
CPU: Settings = {
    "data": list(DATA),
    "side": 28,
    "source": 2000,
    "heldout": 1000,
    "network": {},
    "pretrain": {"steps": 3000, "learning_rate": 2e-3, "ema": 0.998, **SMOOTH},
    "finetune": {"steps": 4000, "batch_size": 2, "learning_rate": 1e-3, "ema": 0.995, **SMOOTH},
    "marks": [200, 600, 2000, 4000],
    "draws": 3,
    "samples": 64,
    "steps": 50,
    "held": 40,
}
"""Rates above the paper's and times uniform in ``log t``, for pre-training has 20 times fewer
steps. Running means of the weights, for at such rates the last weights draw worse. The paper's 400
epochs are 2000 steps."""
FULL: Settings = {
    "data": list(DATA),
    "side": 64,
    "source": 6400,
    "heldout": 1000,
    # `fsd_jax.image.unet.PAPER`, in plain values.
    "network": {
        "channels": 64,
        "multipliers": [1, 2, 2, 4],
        "attention": [False, False, True, True],
        "groups": 32,
    },
    "pretrain": {"steps": 64_000},
    "finetune": {"steps": 2000, "batch_size": 2},
    "marks": [200, 600, 2000],
    "draws": 3,
    "samples": 256,
    "steps": 100,
    "held": 200,
}
"""Section 6: 200 epochs of 6400 images by 20, then 400 epochs of 10 images by 2."""


def settings(size: str) -> Settings:
    """`marks` are the steps at which fine-tuning is measured.

    The first draw of the target images is tuned in all ways, others in the paper's two.
    """
    return {"quick": QUICK, "default": CPU, "full": FULL}[size]


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Every measure of every set of tuned blocks at every mark."""
    s = settings
    for name in work.data or s["data"]:
        try:
            # Needs the networks' library, which is optional.
            from benchmarks.studies.images.unet.training import along_draws

            task = getattr(data, name)(
                size=s["side"], source=s["source"], shots=SHOTS, heldout=s["heldout"]
            )
        except ImportError as error:
            yield record(name, None, method="all", metric="f_mem", status=f"skipped: {error}")
            continue
        setting = setting_of(task, samples=s["samples"], steps=s["steps"], seed=work.seed)
        yield from along_draws(s, work, setting)


def names(table: Table) -> list[str]:
    """The data sets that are there."""
    return list(dict.fromkeys(r["data"] for r in table.present() if r["metric"] != PICTURES))


def draw(table: Table) -> Any:
    """Each measure against the steps, levels of what has none as lines across; a row a data set."""
    held = names(table)
    if not held:
        return None
    figure, axes = drawing.canvas(len(held), 4, figsize=(15, 3.6 * len(held) + 0.8))
    for name, panels in zip(held, axes, strict=True):
        _along_steps(panels, table, name)
        panels[0].set_ylabel(name)
    drawing.legend_below(figure, axes, 4)
    return figure


def _along_steps(axes: Any, table: Table, data: str) -> None:
    """A line a draw of the target images, moved to be seen."""
    steps = sorted({r["step"] for r in table.present(data=data) if r.get("step")})
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
        for place, method in enumerate(TUNED):
            own = table.present(data=data, metric=metric, method=method)
            for draw in dict.fromkeys(r["draw"] for r in own):
                moved = [
                    r | {"step": r["step"] * (1 + draw / 12)} for r in own if r["draw"] == draw
                ]
                label = "_" if draw else TITLES[method]
                drawing.points(axis, moved, "step", place, line=True, label=label)
        for method, dash in LEVELS.items():
            for r in table.present(data=data, metric=metric, method=method, draw=0):
                axis.axhline(r["value"], ls=dash, color="0.45", lw=1.2, label=TITLES[method])
        axis.set(xscale="log", xlabel="fine-tuning steps", title=title)
        axis.set_xticks(steps, [str(step) for step in steps])
        axis.minorticks_off()
    axes[-1].set_yscale("log")


def _sheet(table: Table, data: str) -> Any:
    def words(method: str) -> str:
        said = ""
        for metric, label in (("target_share", "target share"), ("f_mem", "copies")):
            own = table.present(data=data, metric=metric, method=method, draw=0)
            for r in own[-1:]:
                said += f"; {label} {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"
        return said

    title = f"{data}, U-Net at the end of fine-tuning: the same noise in every row"
    return pictures.sheet(table, data, TITLES, words, title)


def finding(table: Table) -> str:
    """Copies by both ways to tune at the last step, means over draws of the ten images."""
    said = []
    for name in names(table):
        rows = table.select(data=name, metric="f_mem")
        last = max(r["step"] for r in rows)
        share = {}
        for method in ("everything", "encoder_decoder"):
            own = [r for r in rows if r["method"] == method and r["step"] == last]
            if not own:
                raise Missing(f"{name}: {method} after {last} steps")
            found = mean(r["value"] for r in own)
            # The draws' error, or that of their few images where they agree by chance.
            within = sum(r["stderr"] ** 2 for r in own) ** 0.5 / len(own)
            error = max(found["stderr"] or 0.0, within)
            share[method] = f"{found['value']:.0%} +- {error:.0%}"
        said.append(
            f"{name}: after {last} steps on ten images {share['everything']} of a U-Net's images "
            f"are copies with all of it tuned, {share['encoder_decoder']} with encoder and decoder"
        )
    if not said:
        raise Missing("no data set is there")
    return "; ".join(said) + "."


def lines(table: Table) -> text.Lines:
    """The first draw at the last step: one line a method, one column a measure."""
    rows = [r for r in table.present(draw=0) if r["metric"] in PANELS]
    last = max((r["step"] for r in rows), default=0)
    rows = [r for r in rows if r["step"] in (0, last)]
    lost = [text.line(r) for r in table.rows if r["value"] is None]
    return text.pivot(rows, ("data", "method", "step"), lambda r: r["metric"], text.short) + lost


STUDY = Study(
    name="unet",
    summary="a U-Net on drawn images: everything, encoder and decoder, or its rim, step by step",
    settings=settings,
    compute=compute,
    pictures={f"unet-{name}": partial(_sheet, data=name) for name in DATA} | {"unet-steps": draw},
    lines=lines,
    finding=finding,
    quick=False,
    long=True,
    data=DATA,
)
