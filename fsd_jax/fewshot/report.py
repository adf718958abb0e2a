"""Is ten enough? Held-out or leave-one-out losses of a model beside its rivals, in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fsd_jax.fewshot.duplicates import Duplicates

LEVEL = 0.9
"""Limits hold a difference with this probability: one in twenty lies beyond each."""

SMALL = 0.01
"""A gain below this share of a rival's loss is none."""

LEAST_UNITS = 4
"""With fewer different pictures the error bar is a guess."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method's loss, and its paired difference from the model's.

    Attributes:
        name: the method.
        loss: mean loss per sample.
        loss_stderr: its standard error.
        difference: the method's loss minus the model's, mean over the same samples.
        difference_stderr: its standard error, as if the losses were independent.
        low: lower limit of the difference, by Student's t (`limits`).
        high: upper limit.
    """

    name: str
    loss: float
    loss_stderr: float
    difference: float
    difference_stderr: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What so many target samples are expected to bring.

    Attributes:
        n: number of different target samples.
        loss: expected loss on new samples of a model that is adapted to n of them.
        low: lower limit, over draws of the samples and over what the given ones leave open.
        high: upper limit; both together hold 90%.
        extrapolated: n is more than twice the given number.
    """

    n: int
    loss: float
    low: float
    high: float
    extrapolated: bool

    def __str__(self) -> str:
        far = " (extrapolation)" if self.extrapolated else ""
        return (
            f"{self.n} samples would have loss {self.loss:.4g}, "
            f"between {self.low:.4g} and {self.high:.4g}{far}"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What the target samples can and cannot support.

    Implements: R6.

    Attributes:
        model: the model's own loss (its difference is zero).
        source: the source as it is, all that is kept of its spectrum, with the better of its own
            and the target's mean.
        target_only: the target alone, the better of Ledoit-Wolf's and OAS's shrinkage.
        rivals: all others: the source's and the target's samples pooled, then those given.
        evaluation: ``"leave-one-out"`` or ``"held-out"``.
        samples: number of samples the losses are averaged over.
        units: number of different pictures (or of `target_groups`) among them; each counts once.
        rank: directions that the target determined.
        latent_dim: ``d``.
        floor: ``max(d - rank, 0)``, a lower bound on ``||VV' - AA'||_F^2`` for a decoder whose
            columns lie in the span of the target samples (R6).
        duplicates: pictures found more than once; printing it lists them, and it is false if none.
        notes: what is odd about the data, one sentence each.
        curve: what other numbers of samples would bring, where that was asked for.
        enough: True if the lower limit of the gain over the better of `source` and `target_only` is
            above 0, False if the upper one is below 1% of that rival's loss, else None.
        verdict: the same in words, and which other rival is better.
    """

    model: Comparison
    source: Comparison
    target_only: Comparison
    rivals: tuple[Comparison, ...] = ()
    evaluation: str
    samples: int
    units: int
    rank: int
    latent_dim: int
    floor: int
    duplicates: Duplicates = field(default_factory=Duplicates)
    notes: tuple[str, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    enough: bool | None
    verdict: str

    def __repr__(self) -> str:
        return f"Report({self.evaluation} on {self.samples} samples: {self.verdict})"

    def __str__(self) -> str:
        rows = [
            f"{self.evaluation} loss over {_counted(self.samples, self.units)} "
            "(integrated, lower is better)",
            f"  {'method':<26}{'loss':>14}{'s.e.':>12}{'minus model':>14}{'s.e.':>12}",
        ]
        for row in (self.model, self.source, self.target_only, *self.rivals):
            rows.append(
                f"  {row.name:<26}{row.loss:>14.6g}{row.loss_stderr:>12.3g}"
                f"{row.difference:>14.4g}{row.difference_stderr:>12.3g}"
            )
        rows.append(
            f"  directions found: {self.rank} of {self.latent_dim}; "
            f"floor on the subspace error from target data alone: {self.floor}"
        )
        if self.duplicates or self.duplicates.source_compared:
            rows.append(f"  duplicates: {self.duplicates}")
        rows += [f"  note: {note}" for note in self.notes]
        rows += [f"  {point}" for point in self.curve]
        return "\n".join([*rows, f"  {self.verdict}"])

    def plot(self) -> Any:
        """A Matplotlib figure: losses with errors, and the curve where there is one.

        Raises:
            ImportError: without Matplotlib.
        """
        from fsd_jax.fewshot.picture import drawn

        return drawn(self)

    def to_html(self) -> str:
        """One page that loads nothing from elsewhere: verdict, losses, notes and curve."""
        from fsd_jax.fewshot.picture import page

        return page(self)


def compare(
    name: str,
    ours: np.ndarray,
    baselines: dict[str, np.ndarray],
    target_only: tuple[str, np.ndarray],
    *,
    evaluation: str,
    n_ta: int,
    rank: int,
    latent_dim: int,
    units: np.ndarray | None = None,
    n_units: int | None = None,
    duplicates: Duplicates | None = None,
    notes: tuple[str, ...] = (),
    rivals: Mapping[str, np.ndarray] | None = None,
    curve: tuple[CurvePoint, ...] = (),
) -> Report:
    """Build a `Report` from per-sample losses on the same samples.

    Args:
        name: the model's.
        ours: ``(m,)`` its losses.
        baselines: those of "source as is", of which the best counts.
        target_only: name and losses.
        evaluation: ``"leave-one-out"`` or ``"held-out"``.
        n_ta: number of target samples.
        rank: directions that the target determined.
        latent_dim: ``d``.
        units: ``(m,)`` labels; samples with the same one are one picture.
        n_units: number of different pictures among the target samples.
        duplicates: what was found.
        notes: sentences about the data.
        rivals: losses of others, by name.
        curve: what other numbers of samples would bring.
    """
    labels = np.arange(len(ours)) if units is None else np.asarray(units)
    count = len(np.unique(labels))
    left_out = evaluation == "leave-one-out"

    def row(name: str, losses: np.ndarray) -> Comparison:
        return _row(name, losses, ours, labels, left_out)

    source = min((row(n, v) for n, v in baselines.items()), key=lambda found: found.loss)
    scratch = row(*target_only)
    others = tuple(row(n, v) for n, v in (rivals or {}).items())
    few = _counted(n_ta, n_ta if n_units is None else n_units)
    enough, verdict = _verdict(source, scratch, few, count)
    verdict += _better(others, count)
    return Report(
        model=row(name, ours),
        source=source,
        target_only=scratch,
        rivals=others,
        evaluation=evaluation,
        samples=len(ours),
        units=count,
        rank=rank,
        latent_dim=latent_dim,
        floor=max(latent_dim - rank, 0),
        duplicates=duplicates or Duplicates(),
        notes=notes,
        curve=curve,
        enough=enough,
        verdict=verdict,
    )


def _counted(samples: int, units: int) -> str:
    return f"{samples} samples" + (f" in {units} groups" if units < samples else "")


def _row(
    name: str, losses: np.ndarray, ours: np.ndarray, labels: np.ndarray, left_out: bool
) -> Comparison:
    losses, gaps = (_by_unit(v, labels) for v in (losses, _difference(losses, ours)))
    root = max(len(losses), 1) ** 0.5

    def stderr(values: np.ndarray) -> float:
        known = len(values) > 1 and bool(np.all(np.isfinite(values)))
        return float(np.std(values, ddof=1) / root) if known else float("nan")

    gain, error = float(np.mean(gaps)), stderr(gaps)
    low, high = limits(gain, error, len(gaps), left_out=left_out)
    return Comparison(
        name=name,
        loss=float(np.mean(losses)),
        loss_stderr=stderr(losses),
        difference=gain,
        difference_stderr=error,
        low=low,
        high=high,
    )


def limits(mean: float, error: float, units: int, *, left_out: bool) -> tuple[float, float]:
    """Between which the expected value lies with probability `LEVEL`.

    Refits that leave one of n out share all others, so their losses are not independent, and the
    model of other samples would be another one: their variance counts ``1 + n/(n - 1)`` times
    (Nadeau and Bengio 2003).
    """
    if not (units > 1 and math.isfinite(error)):
        return float("nan"), float("nan")
    more = 1 + units / (units - 1) if left_out else 1.0
    step = student_quantile(units - 1) * more**0.5 * error
    return mean - step, mean + step


def _difference(losses: np.ndarray, ours: np.ndarray) -> np.ndarray:
    # Pairs before means: what samples have in common cancels.
    return losses.astype(np.float64) - ours.astype(np.float64)


def _by_unit(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean over each unit: a picture that occurs twice is one observation."""
    _, unit, size = np.unique(labels, return_inverse=True, return_counts=True)
    return np.bincount(unit.reshape(-1), weights=values.astype(np.float64)) / size


def student_quantile(freedom: int) -> float:
    """``q`` with ``P(|T| < q) = LEVEL`` for Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _verdict(
    source: Comparison, scratch: Comparison, few: str, units: int
) -> tuple[bool | None, str]:
    if units < LEAST_UNITS:
        one = units == 1
        pictures = "one evaluation sample gives" if one else f"{units} evaluation samples give"
        return None, (
            f"Cannot tell: {pictures} no error bar, repeats counted once; whether adapting helps "
            "cannot be known from them; add different target samples or hold out a few more."
        )
    best = min((source, scratch), key=lambda row: row.loss)
    gain, low, high = best.difference, best.low, best.high
    if not math.isfinite(low):
        return None, "Cannot tell: a loss is not finite; see the table."
    # A share of the larger loss: between 0 and 1 whichever is better.
    larger = max(abs(best.loss), abs(best.loss - gain))
    share = abs(gain) / larger if larger else 0.0
    between = f"{gain:.3g}, between {low:.3g} and {high:.3g}"
    if low > 0:
        return True, (
            f"Yes: {few} are enough for a gain over '{best.name}' "
            f"({share:.1%} of its loss; {between})."
        )
    if high < 0:
        return False, (
            f"No: with {few} '{best.name}' is better "
            f"(by {share:.1%} of the model's loss; gain {between}); "
            "use it or add samples."
        )
    if high < SMALL * abs(best.loss):
        return False, (
            f"No: with {few} the gain over '{best.name}' is below {SMALL:.0%} of its loss "
            f"({between})."
        )
    return None, (
        f"Cannot tell: with {few} the gain over '{best.name}' is {between}; "
        "add target samples or held-out ones."
    )


def _better(rivals: tuple[Comparison, ...], units: int) -> str:
    """The other rival that is surely better, if there is one; the best of them."""
    found = [row for row in rivals if row.high < 0 and units >= LEAST_UNITS]
    if not found:
        return ""
    best = min(found, key=lambda row: row.loss)
    return f" But '{best.name}' is better, by {-best.high:.3g} to {-best.low:.3g}."
