"""What is generated: copies of the target, or new members of it. Section 4.1, Figures 1 and 2."""

from paper_figures.table import Row, Table
from paper_figures.verdicts import SIGMAS, Verdict, decide

COPIES, NEW = 0.9, 0.1
"""Who memorises, and who does not: shares of generated samples that copy a target sample."""
MEMBERS = 0.5
"""The least share of new samples that must be judged members of the target."""


def memorises(table: Table) -> Verdict:
    """Confirmed if everything tuned copies for every n_ta, and encoder and decoder as the truth."""
    rows = {name: table.select(series="f_mem", method=name)
            for name in ("everything", "encoder_decoder", "real")}  # fmt: skip
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
    return Verdict(verdict=decide(printed=printed, ours=printed and like and shares), reason=words,
                   measured=fewest["value"], low=fewest["low"], high=fewest["high"])  # fmt: skip


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
    return Verdict(verdict=verdict, reason=words, measured=members["value"], low=members["low"],
                   high=members["high"])  # fmt: skip
