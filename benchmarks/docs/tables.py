"""Tables of the documentation that are not those of the terminal."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks import text
from benchmarks.records import Record
from benchmarks.studies.images import ten_images
from benchmarks.studies.linear.gain.judging import AS_IS, COMPLETED
from benchmarks.studies.networks import memorisation, pretraining
from benchmarks.studies.speed import simulate, solve
from benchmarks.studies.speed.solve.peers import OURS
from benchmarks.study import Study, mean
from benchmarks.table import Table

Maker = Callable[[Table], text.Lines]
IMAGES = {
    "everything": "everything tuned",
    "encoder_decoder": "encoder and decoder, Gaussian latents",
    "encoder_decoder_empirical": "encoder and decoder, the source's own latents",
    "rank": "rank-d, integrated",
    "rehearsed": "rehearsed, target mean",
    "rehearsed_any_mean": "rehearsed, any mean",
    "scratch": "target only",
    "source_target_mean": "source as is, target mean",
    "source": "source as is",
    "real": "other images of the target (real)",
}
UNET = {
    "real": "other images of the target (real)",
    "source": "source as is",
    "everything": "everything",
    "encoder_decoder": "encoder and decoder",
    "outermost": "outermost blocks (one draw)",
    "closed_form": "closed form, d = 32",
    "exact_everything": "exact optimum of everything tuned",
}
LINEAR = {
    "closed_form": "the paper's class in closed form, d = 32",
    "closed_form_wide": "the same, d = 512 (one draw)",
    "source": "U-Net, source as is",
    "everything": "U-Net, everything tuned, at its best step",
    "encoder_decoder": "U-Net, encoder and decoder tuned, at its best step",
}
SETS = {"avatars": "faces", "critters": "critters"}
MEASURES = {
    "f_mem": "copies",
    "target_share": "judged of the target",
    "nearest_distance": "distance to the nearest of the ten",
    "heldout_loss": "held-out loss",
    "frechet": "Frechet distance",
    "diversity": "diversity",
}
SHOWN = ("f_mem", "target_share", "frechet", "heldout_loss")
GARMENTS = ("fashion-boots", "fashion-shirts")


def note(table: Table) -> str:
    """Which run a table is of."""
    made = [row["provenance"] for row in table.rows]
    commits = ", ".join(dict.fromkeys(f"`{each['git']}`" for each in made))
    jax = ", ".join(dict.fromkeys(each["versions"]["jax"] for each in made))
    return f"Study `{table.study}`, {table.asked['size']} size, commit {commits}, JAX {jax}."


def pooled(rows: Iterable[Record], keys: tuple[str, ...]) -> list[Record]:
    """Rows that differ in nothing but the draw of the images, as their mean."""
    held: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for row in rows:
        held[tuple(row[key] for key in keys)].append(row)
    return [own[0] | mean(r["value"] for r in own) for own in held.values()]


def agreement(table: Table) -> text.Lines:
    """The worst gap and distance of each data set and size."""
    held: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for row in table.present():
        held[row["data"], row["D"], row["d"]].append(row)
    found = []
    for (data, D, d), rows in held.items():
        worst = {m: max(abs(r["value"]) for r in rows if r["metric"] == m) for m in GAPS}
        words = {heading: f"{worst[metric]:.0e}" for metric, heading in GAPS.items()}
        count = sum(r["metric"] == "loss_gap" for r in rows)
        steps = f"{max(r['steps'] for r in rows)}"
        found.append({"data": data, "D": str(D), "d": str(d), "problems": str(count)} | words)
        found[-1]["most steps"] = steps
    return found


GAPS = {"loss_gap": "largest relative loss gap", "projector_distance": "largest projector distance"}


def gain(table: Table) -> text.Lines:
    """Exact laws and drawn data by estimator, at the numbers that have both."""
    names = {"rank": "from scratch", "orthonormal": "few-shot"}
    large = max(table.settings["n_s"])
    rows = [r | {"as": names[r["method"]]} for r in table.present(data="sweep", n_s=large)]
    for data, name in ((COMPLETED, "few-shot, completed"), (AS_IS, "source as it is")):
        rows += [r | {"as": name} for r in table.present(data=data)]
    both = {r["n_ta"] for r in rows if r["data"] == "sweep"}
    rows = sorted((r for r in rows if r["n_ta"] in both), key=lambda r: r["n_ta"])
    return text.pivot(rows, ("n_ta",), lambda r: r["as"], text.short)


def solved(table: Table) -> text.Lines:
    """Ours beside the fastest peer that is as accurate."""
    found = []
    for name, rows in solve.timed(table).items():
        own = next(r for r in rows if r["method"] == OURS)
        peer = solve.rivals(rows)[0]
        found.append(
            {
                "data": name,
                "d": str(own["d"]),
                "fsd_jax": _ms(own),
                "fastest peer at equal accuracy": f"{peer['method']}, {_ms(peer)}",
                "peer / fsd_jax": f"{peer['value'] / own['value']:.2g}",
                "fsd_jax / floor": f"{own['value'] / own['floor']:.2g}" if own["floor"] else "",
            }
        )
    return found


def raced(table: Table) -> text.Lines:
    """The closed form beside the fastest rival, and others that are known well."""
    found = []
    for row in table.present(metric="speedup"):
        at = {"D": row["D"], "n_ta": row["n_ta"], "metric": "time_to_gap"}
        runs = table.present(tolerance=row["tolerance"], **at)
        best = min(runs, key=lambda r: r["value"])
        line = {"D": str(row["D"]), "n_ta": str(row["n_ta"])}
        line["closed form"] = _ms(table.one(method="closed form", tolerance=None, **at))
        line["fastest rival"] = f"{best['method']}, {_ms(best)}, {best['steps']} steps"
        for method in ("L-BFGS", "Adam", "gradient descent"):
            own = [r for r in runs if r["method"] == method]
            line[method] = f"{_ms(own[0])}, {own[0]['steps']} steps" if own else "not reached"
        found.append(line | {"rival / closed form": f"{row['value']:.3g}"})
    return found


def slopes(table: Table) -> text.Lines:
    """Slopes of the linear rates with their intervals."""
    found = []
    for row in table.present(data="slopes"):
        interval = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        found.append(
            {
                "slope in": row["metric"].removeprefix("slope_in_"),
                "fitted from": f"{row['fitted_from']}",
                "measured": interval,
                "exact": f"{row['exact']:.3f}",
                "the bound's": f"{row['bound']:g}",
            }
        )
    return found


def images(table: Table, data: Iterable[str], measures: Iterable[str]) -> text.Lines:
    """One line a method: measures, and the loss beside that of the source at the target's mean."""
    rows = [r for name in data for r in table.present(data=name)]
    several = len({r["data"] for r in rows}) > 1
    found = {title: {"method": title} for title in IMAGES.values()}
    for measure in dict.fromkeys([*measures, "heldout_loss"]):
        for row in (r for r in rows if r["metric"] == measure):
            where = f", {row['data'].rpartition('-')[2]}" if several else ""
            line = found[IMAGES[row["method"]]]
            if measure in measures:
                line[MEASURES[measure] + where] = text.short(row)
            if measure == "heldout_loss" and row.get("over_source") is not None:
                line[f"loss minus the source's{where}"] = _beside(row, "over_source")
    return list(found.values())


def gains(table: Table, data: str) -> text.Lines:
    """How far the held-out loss lies below that of the source at the target's mean."""
    rows = [r for r in table.present(data=data) if r["method"] != ten_images.RIVAL]
    return text.pivot(
        rows, ("method",), lambda r: f"{r['n_ta']} images", lambda r: _beside(r, "gain")
    )


def only(study: Study, table: Table, *columns: str) -> text.Lines:
    """Some columns of a study's own lines, and the lines that have them."""
    lines = [{name: line.get(name, "") for name in columns} for line in study.lines(table)]
    return [line for line in lines if line[columns[-1]]]


def durability(table: Table) -> text.Lines:
    """Times beside those of the bare simulator."""
    return [
        {
            "what": "killed and resumed" if row["data"] == "kills" else row["method"],
            "time": text.number(row),
            "beside what it is compared with": f"{row['value'] / row['floor']:.2f}",
        }
        for row in table.present(metric="time")
    ]


def memory(table: Table) -> text.Lines:
    """Memory of a sweep at its peak."""
    return [
        {
            "replicates": str(row["replicates"]),
            "replicates a batch": str(row["batch_size"]),
            "extra memory at the peak": f"{row['value'] / 1e6:.1f} MB",
        }
        for row in table.present(metric="peak_extra_bytes")
    ]


def unet(table: Table, data: str) -> text.Lines:
    """One line a set of tuned blocks and step, means over the draws of the ten images."""
    rows = [r for r in table.present(data=data) if r["metric"] in MEASURES]
    rows = pooled(rows, ("method", "step", "metric"))
    rows = [r for name in UNET for r in rows if r["method"] == name]
    for row in rows:
        row["tuned"] = UNET[row["method"]]
        row["steps"] = row["step"] or ""
    order = list(MEASURES)
    rows.sort(key=lambda r: order.index(r["metric"]))
    rows.sort(key=lambda r: (list(UNET).index(r["method"]), r["step"]))
    return text.pivot(rows, ("tuned", "steps"), lambda r: MEASURES[r["metric"]], _value)


def linear(table: Table) -> text.Lines:
    """Losses of closed forms beside the least that a U-Net reached, means over draws."""
    rows = table.present(metric="heldout_loss")
    means = pooled(rows, ("data", "method", "step"))
    found = []
    for method, name in LINEAR.items():
        line = {"model": name} | dict.fromkeys(SETS.values(), "")
        for row in sorted(means, key=lambda r: r["value"], reverse=True):
            # The last one, the least, stays.
            if row["method"] == method:
                line[SETS[row["data"]]] = text.short(row)
        found.append(line)
    return found


def digits(table: Table) -> text.Lines:
    """The noise prediction error of each method at each number of zeros."""
    rows = table.present(metric="noise_mse")
    return text.pivot(rows, ("method",), lambda r: f"{r['n_ta']} zeros", text.short)


def rates(table: Table) -> text.Lines:
    """Slopes of networks' errors, and where they cross."""
    held: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if row["data"].endswith("findings") and row["metric"].startswith("slope"):
            axis = row["metric"].removeprefix("slope_in_")
            at = f"n_s = {row['n_s']}" if axis == "n_ta" else f"n_ta = {row['n_ta']}"
            name = f"{NETWORKS[row['method']]}, slope in {axis}, {at}"
            line = held.setdefault(name, {"": name})
            line[f"d = {row['d']}"] = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            claimed = f"{row['claimed']:.2g}"
            if row.get("theorem"):
                claimed += f" (theorem {row['theorem']:.2g})"
            line[f"claimed, d = {row['d']}"] = claimed
    return list(held.values())


NETWORKS = {"fewshot": "few-shot", "scratch": "scratch"}


def _ms(row: Record) -> str:
    return f"{text.digits(1e3 * row['value'], 3)} ms"


def _value(row: Record) -> str:
    return text.digits(row["value"], 3)


def _beside(row: Record, field: str) -> str:
    return text.short({"value": row[field], "stderr": row[f"{field}_stderr"]})


def _own(study: Study, *columns: str) -> tuple[str, Maker]:
    return study.name, lambda table: only(study, table, *columns)


TABLES: dict[str, tuple[str, Maker]] = {
    "agreement": ("agreement", agreement),
    "gain": ("gain", gain),
    "solve": ("solve", solved),
    "optimise": ("optimise", raced),
    "slopes": ("linear-rates", slopes),
    "replicates": _own(simulate.STUDY, "method", "times the floor", "replicates a second"),
    "means": _own(simulate.STUDY, "method", "mean", "exact"),
    "durability": ("durability", durability),
    "memory": ("durability", memory),
    "gains-digits": ("ten-images", partial(gains, data="digits")),
    "gains-boots": ("ten-images", partial(gains, data="fashion-boots")),
    "faces": ("images", partial(images, data=["avatars"], measures=SHOWN)),
    "critters": ("images", partial(images, data=["critters"], measures=SHOWN)),
    "garments": ("images", partial(images, data=GARMENTS, measures=["target_share"])),
    "unet-faces": ("unet", partial(unet, data="avatars")),
    "unet-critters": ("unet", partial(unet, data="critters")),
    "closed-forms": ("unet", linear),
    "digits": ("digits", digits),
    "rates": ("section4-rates", rates),
    "pretraining": _own(pretraining.STUDY, "data", "shift", "fewshot", "scratch"),
    "memorisation": _own(memorisation.STUDY, "data", "at", "heldout_loss", "f_mem"),
}
"""The study and the lines of each; any other name is a study with its own lines."""
