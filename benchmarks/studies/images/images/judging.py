"""What is generated: copies of the target, or new members of it. Figures 1 and 2."""

from benchmarks.judging import Verdict, judged
from benchmarks.table import Table

COPIES, NEW = 0.9, 0.1
"""Who memorises, and who does not: shares of generated samples that copy a target sample."""
MEMBERS = 0.5
"""The least share of new samples that must be judged members of the target."""


def pictures(table: Table) -> Verdict:
    """Confirmed if everything tuned copies, and encoder and decoder give new members of the target.

    Ours is weaker: new images, whether or not they are judged to be members.
    """
    memory = {r["method"]: r for r in table.select(metric="f_mem")}
    share = {r["method"]: r for r in table.select(metric="target_share")}
    copied = memory["everything"]
    new = [memory[name] for name in ("encoder_decoder", "encoder_decoder_empirical")]
    members, source = share["encoder_decoder_empirical"], share["real source"]
    most = max(new, key=lambda r: r["value"])
    s = table.settings
    words = (
        f"{members['data']}, drawn, {s['shots']} target images, in closed form with a linear f and "
        f"{s['size']} pixels a side, not the paper's networks and photographs: everything tuned "
        f"copies {copied['value']:.0%} [{copied['low']:.2f}, {copied['high']:.2f}]; encoder and "
        f"decoder copy {most['value']:.1%} [{most['low']:.2f}, {most['high']:.2f}], and "
        f"{members['value']:.0%} [{members['low']:.2f}, {members['high']:.2f}] of their images are "
        f"judged to be of the target (fresh target images: {share['real']['value']:.0%}, of "
        f"source images {source['value']:.0%})"
    )
    ours = COPIES < copied["low"] <= 1 and all(r["high"] < NEW for r in new)
    ours = ours and source["high"] < members["low"]
    return judged(members, words, printed=ours and members["low"] > MEMBERS, ours=ours)
