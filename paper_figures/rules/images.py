"""What is generated: copies of the target, or new members of it. Section 4.1, Figures 1 and 2."""

from typing import NamedTuple

from paper_figures.table import Row, Table
from paper_figures.verdicts import NOT_TESTABLE, SIGMAS, Verdict, decide

COPIES, NEW = 0.9, 0.1
"""Who memorises, and who does not: shares of generated samples that copy a target sample."""
MEMBERS = 0.5
"""The least share of new samples that must be judged members of the target."""


def memorises(table: Table) -> Verdict:
    """Confirmed if everything tuned copies for every n_ta, and encoder and decoder as the truth."""
    rows = {
        name: table.select(series="f_mem", method=name)
        for name in ("everything", "encoder_decoder", "real")
    }
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
    return Verdict(
        verdict=decide(printed=printed, ours=printed and like and shares),
        reason=words,
        measured=fewest["value"],
        low=fewest["low"],
        high=fewest["high"],
    )


def _alike(new: Row, real: Row) -> bool:
    error = (new["stderr"] ** 2 + real["stderr"] ** 2) ** 0.5
    return bool(new["value"] - real["value"] <= SIGMAS * error + NEW)


def pictures(table: Table) -> Verdict:
    """Confirmed if everything tuned copies, and encoder and decoder give new members of the target.

    Ours is weaker: new images, whether or not they are judged to be members.
    """
    memory = {r["method"]: r for r in table.select(series="f_mem")}
    share = {r["method"]: r for r in table.select(series="target_share")}
    copied = memory["everything"]
    new = [memory[name] for name in ("encoder_decoder", "encoder_decoder_empirical")]
    members = share["encoder_decoder_empirical"]
    most = max(new, key=lambda r: r["value"])
    s = table.settings
    words = (
        f"{s['data']}, drawn, {s['shots']} target images, in closed form with a linear f and "
        f"{s['size']} pixels a side, not the paper's networks and photographs: everything tuned "
        f"copies {copied['value']:.0%} [{copied['low']:.2f}, {copied['high']:.2f}]; encoder and "
        f"decoder copy {most['value']:.1%} [{most['low']:.2f}, {most['high']:.2f}], and "
        f"{members['value']:.0%} [{members['low']:.2f}, {members['high']:.2f}] of their images are "
        f"judged to be of the target (fresh target images: {share['real']['value']:.0%}, of "
        f"source images {share['source']['value']:.0%})"
    )
    ours = COPIES < copied["low"] <= 1 and all(r["high"] < NEW for r in new)
    ours = ours and share["source"]["high"] < members["low"]
    verdict = decide(printed=ours and members["low"] > MEMBERS, ours=ours)
    return Verdict(
        verdict=verdict,
        reason=words,
        measured=members["value"],
        low=members["low"],
        high=members["high"],
    )


PAPER_STEPS = 2000
"""Section 6's 400 epochs of ten images by two."""


class Finding(NamedTuple):
    """What one data set says of the network: whether it can judge, both claims, and words."""

    strong: bool
    printed: bool
    ours: bool
    words: str
    copied: list[Row]


def along_steps(table: Table) -> Verdict:
    """Confirmed if, on every data set and in every draw of the ten images, a U-Net all of which is
    tuned ends with copies after the paper's number of steps, and one whose encoder and decoder are
    with new members.

    Ours is weaker: at the last step measured, over all draws, the first copies more than the
    second, and the second's images become the target's. A network that denoises held-out targets
    worse than the linear closed form cannot judge anything.
    """
    names = dict.fromkeys(r["data"] for r in table.select(series="f_mem"))
    found = [_along_steps(table, name) for name in names]
    words = "; ".join(each.words for each in found)
    reason = f"a small U-Net, not the paper's scale and photographs: {words}"
    judges = [each for each in found if each.strong]
    if not judges:
        return Verdict(verdict=NOT_TESTABLE, reason=reason)
    printed, ours = (all(getattr(f, claim) for f in judges) for claim in ("printed", "ours"))
    copied = [r for each in judges for r in each.copied]
    low, high = (_mean(copied, name) for name in ("low", "high"))
    return Verdict(
        verdict=decide(printed=printed, ours=ours),
        reason=reason,
        measured=_mean(copied),
        low=low,
        high=high,
    )


def _along_steps(table: Table, data: str) -> Finding:
    last = max(r["step"] for r in table.select(series="f_mem", data=data))

    def each(series: str, method: str, step: int = last) -> list[Row]:
        return table.select(series=series, method=method, step=step, data=data)

    copied, new = each("f_mem", "everything"), each("f_mem", "encoder_decoder")
    members = each("target_share", "encoder_decoder")
    source, linear = each("target_share", "source", 0), each("heldout_loss", "closed_form", 0)
    loss = each("heldout_loss", "encoder_decoder")
    early = [each("f_mem", name, PAPER_STEPS) for name in ("everything", "encoder_decoder")]
    strong = _mean(loss) <= _mean(linear)
    words = (
        f"on {data}, {len(copied)} draws of {copied[0]['n_ta']} target images, after {PAPER_STEPS} "
        f"steps, the paper's number, {_mean(early[0]):.0%} of the images are copies with all of it "
        f"tuned and {_mean(early[1]):.0%} with encoder and decoder; after {last} steps "
        f"{_mean(copied):.0%} and {_mean(new):.0%}, and {_mean(members):.0%} of the latter are "
        f"judged to be of the target (of the source's {_mean(source):.0%})"
    )
    weak = (
        f"on {data} the held-out denoising loss, {_mean(loss):.0f}, is above the linear closed "
        f"form's, {_mean(linear):.0f}: it is too weak to judge"
    )
    shares = all(0 <= r["value"] <= 1 for r in [*copied, *new, *members])
    return Finding(
        strong=strong,
        printed=all(r["low"] > COPIES for r in early[0]) and all(r["high"] < NEW for r in early[1]),
        ours=shares and _above(copied, new) and _above(members, source),
        words=words if strong else weak,
        copied=copied,
    )


def _above(more: list[Row], less: list[Row]) -> bool:
    """Whether the mean over draws is higher, beyond what few samples of each explain."""
    error = sum(r["stderr"] ** 2 for r in [*more, *less]) ** 0.5 / len(more)
    return bool(_mean(more) - _mean(less) > SIGMAS * error)


def _mean(rows: list[Row], field: str = "value") -> float:
    return float(sum(r[field] for r in rows) / len(rows))
