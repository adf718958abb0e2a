"""A U-Net tuned to ten drawn images, from the record of the study `unet`, which takes two hours."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import records
from benchmarks.judging import NOT_TESTABLE, SIGMAS, Statement, Verdict, judged
from benchmarks.records import ORIGIN, Record
from benchmarks.studies.images.images.judging import COPIES, NEW
from benchmarks.studies.images.unet import draw, finding, lines
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table

ROOT = Path(__file__).resolve().parents[3]
RECORD = "benchmarks/results/cpu-2-cores/unet.jsonl"
"""``python -m benchmarks unet`` makes it again."""
PAPER_STEPS = 2000
"""Section 6's 400 epochs of ten images by two."""


def settings(_size: str) -> Settings:
    """The record, so that another one makes another table."""
    path = ROOT / RECORD
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    return {"record": RECORD, "sha256": digest}


def compute(settings: Settings, _work: Work) -> Iterator[Record]:
    """The record's rows.

    Raises:
        ValueError: there is no record.
    """
    for row in records.read(ROOT / settings["record"]):
        yield {name: value for name, value in row.items() if name not in ORIGIN}


class Finding(NamedTuple):
    """What one data set says of the network: whether it can judge, both claims, and words."""

    strong: bool
    printed: bool
    ours: bool
    words: str
    copied: list[Record]


def along_steps(table: Table) -> Verdict:
    """Confirmed if, on every data set and in every draw of the ten images, a U-Net all of which is
    tuned ends with copies after the paper's number of steps, and one whose encoder and decoder are
    with new members.

    Ours is weaker: at the last step measured, over all draws, the first copies more than the
    second, and the second's images become the target's. A network that denoises held-out targets
    worse than the linear closed form cannot judge anything.
    """
    names = dict.fromkeys(r["data"] for r in table.select(metric="f_mem"))
    found = [_along_steps(table, name) for name in names]
    words = "; ".join(each.words for each in found)
    reason = f"a small U-Net, not the paper's scale and photographs: {words}"
    judges = [each for each in found if each.strong]
    if not judges:
        return Verdict(verdict=NOT_TESTABLE, reason=reason)
    printed, ours = (all(getattr(f, claim) for f in judges) for claim in ("printed", "ours"))
    copied = [r for each in judges for r in each.copied]
    mean, low, high = (_mean(copied, name) for name in ("value", "low", "high"))
    return judged((mean, low, high), reason, printed=printed, ours=ours)


def _along_steps(table: Table, data: str) -> Finding:
    last = max(r["step"] for r in table.select(metric="f_mem", data=data))

    def each(metric: str, method: str, step: int = last) -> list[Record]:
        return table.select(metric=metric, method=method, step=step, data=data)

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


def _above(more: list[Record], less: list[Record]) -> bool:
    """Whether the mean over draws is higher, beyond what few samples of each explain."""
    error = sum(r["stderr"] ** 2 for r in [*more, *less]) ** 0.5 / len(more)
    return bool(_mean(more) - _mean(less) > SIGMAS * error)


def _mean(rows: list[Record], field: str = "value") -> float:
    return float(sum(r[field] for r in rows) / len(rows))


STUDY = Study(
    name="u-net",
    figure="u-net",
    summary="a U-Net tuned to ten drawn images: copies, feature, loss along the steps (recorded)",
    settings=settings,
    compute=compute,
    pictures={"u-net": draw},
    lines=lines,
    finding=finding,
    statements=(
        Statement(
            name="Section 6, U-Net",
            place="6 U-Net",
            says="Tuning encoder and decoder of a U-Net (first 4 blocks down, last 4 up) for "
            "400 epochs gives new members of the target, tuning everything memorises",
            function="fsd_jax.image.finetune.train_unet",
            test="tests/image/test_unet.py::test_frozen_arrays_keep_every_bit_and_tuned_ones_move",
            rule=along_steps,
        ),
    ),
)
