"""Is ten enough? Held-out or leave-one-out losses of a model beside its baselines, in words."""

import math
from dataclasses import dataclass, field

import numpy as np

from fsd_jax.fewshot.duplicates import Duplicates

ERRORS = 2.0
"""A difference counts beyond this many standard errors, when they are known exactly."""

LEAST_UNITS = 3
"""With fewer different pictures the error bar is a guess."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method's loss, and its paired difference from the model's.

    Attributes:
        name: the method.
        loss: mean loss per sample.
        loss_stderr: its standard error.
        difference: the method's loss minus the model's, mean over the same samples.
        difference_stderr: its standard error.
    """

    name: str
    loss: float
    loss_stderr: float
    difference: float
    difference_stderr: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What the target samples can and cannot support.

    Implements: R6.

    Attributes:
        model: the model's own loss (its difference is zero).
        source: the better of "source as is" with the target's and with the source's mean.
        target_only: trained on the target alone, its dimension chosen by leave-one-out.
        evaluation: ``"leave-one-out"`` or ``"held-out"``.
        samples: number of samples the losses are averaged over.
        units: number of different pictures (or of `target_groups`) among them; each counts once.
        rank: directions that the target determined.
        latent_dim: ``d``.
        floor: ``max(d - rank, 0)``, a lower bound on ``||VV' - AA'||_F^2`` for a decoder whose
            columns lie in the span of the target samples (R6).
        duplicates: pictures found more than once; printing it lists them, and it is false if none.
        notes: what is odd about the data, one sentence each.
        enough: True, False, or None when the standard error does not allow an answer.
        verdict: one sentence.
    """

    model: Comparison
    source: Comparison
    target_only: Comparison
    evaluation: str
    samples: int
    units: int
    rank: int
    latent_dim: int
    floor: int
    duplicates: Duplicates = field(default_factory=Duplicates)
    notes: tuple[str, ...] = ()
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
        for row in (self.model, self.source, self.target_only):
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
        return "\n".join([*rows, f"  {self.verdict}"])


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
    """
    labels = np.arange(len(ours)) if units is None else np.asarray(units)
    count = len(np.unique(labels))
    model = _row(name, ours, ours, labels)
    source = min((_row(n, v, ours, labels) for n, v in baselines.items()), key=lambda row: row.loss)
    scratch = _row(target_only[0], target_only[1], ours, labels)
    few = _counted(n_ta, n_ta if n_units is None else n_units)
    enough, verdict = _verdict(source, scratch, few, count)
    return Report(
        model=model,
        source=source,
        target_only=scratch,
        evaluation=evaluation,
        samples=len(ours),
        units=count,
        rank=rank,
        latent_dim=latent_dim,
        floor=max(latent_dim - rank, 0),
        duplicates=duplicates or Duplicates(),
        notes=notes,
        enough=enough,
        verdict=verdict,
    )


def _counted(samples: int, units: int) -> str:
    return f"{samples} samples" + (f" in {units} groups" if units < samples else "")


def _row(name: str, losses: np.ndarray, ours: np.ndarray, labels: np.ndarray) -> Comparison:
    losses, gaps = (_by_unit(v, labels) for v in (losses, _difference(losses, ours)))
    root = max(len(losses), 1) ** 0.5

    def stderr(values: np.ndarray) -> float:
        known = len(values) > 1 and bool(np.all(np.isfinite(values)))
        return float(np.std(values, ddof=1) / root) if known else float("nan")

    return Comparison(
        name=name,
        loss=float(np.mean(losses)),
        loss_stderr=stderr(losses),
        difference=float(np.mean(gaps)),
        difference_stderr=stderr(gaps),
    )


def _difference(losses: np.ndarray, ours: np.ndarray) -> np.ndarray:
    # Pairs before means: what samples have in common cancels.
    return losses.astype(np.float64) - ours.astype(np.float64)


def _by_unit(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean over each unit: a picture that occurs twice is one observation."""
    _, unit, size = np.unique(labels, return_inverse=True, return_counts=True)
    return np.bincount(unit.reshape(-1), weights=values.astype(np.float64)) / size


def student_quantile(freedom: int) -> float:
    """How many standard errors count: Student's t at the level that `ERRORS` has in the limit.

    ``P(|T| < q) = P(|Z| < 2)``. The probability is Student's finite sum, inverted by bisection; for
    many degrees of freedom the expansion about the normal quantile leaves less than 1e-6.
    """
    z = ERRORS
    if freedom > 100:
        first = (z**3 + z) / 4
        second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        return z + first / freedom + second / freedom**2 + third / freedom**3
    wanted, low, high = math.erf(z / 2**0.5), z, 20.0
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _within(middle, freedom) < wanted else (low, middle)
    return 0.5 * (low + high)


def _within(t: float, freedom: int) -> float:
    """``P(|T| < t)`` for a whole number of degrees of freedom (Student 1908)."""
    angle = math.atan2(t, freedom**0.5)
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2 == 0:
        term, total = 1.0, 1.0
        for k in range(1, freedom // 2):
            term *= square * (2 * k - 1) / (2 * k)
            total += term
        return sine * total
    term, total = math.cos(angle), 0.0
    for k in range(1, (freedom - 1) // 2 + 1):
        total += term
        term *= square * (2 * k) / (2 * k + 1)
    return (angle + sine * total) * 2 / math.pi


def _verdict(
    source: Comparison, scratch: Comparison, few: str, units: int
) -> tuple[bool | None, str]:
    if units < LEAST_UNITS:
        one = units == 1
        pictures = "one evaluation sample gives" if one else f"{units} evaluation samples give"
        return None, (
            f"Cannot tell: {pictures} no error bar, repeats counted once; "
            "add different target samples or hold out a few more."
        )
    best = min((source, scratch), key=lambda row: row.loss)
    gain, error = best.difference, best.difference_stderr
    if not math.isfinite(error):
        return None, "Cannot tell: a loss is not finite; see the table."
    # A share of the larger loss: between 0 and 1 whichever is better.
    larger = max(abs(best.loss), abs(best.loss - gain))
    share = abs(gain) / larger if larger else 0.0
    # The error bar is itself estimated, from `units` pictures.
    enough = student_quantile(units - 1) * error
    if gain > enough:
        return True, (
            f"Yes: {few} are enough for a gain over '{best.name}' "
            f"({share:.1%} of its loss, {gain:.3g} +- {error:.2g})."
        )
    if gain < -enough:
        return False, (
            f"No: with {few} '{best.name}' is better "
            f"(by {share:.1%} of the model's loss, {-gain:.3g} +- {error:.2g}); "
            "use it or add samples."
        )
    return None, (
        f"Cannot tell: with {few} the model and '{best.name}' differ by "
        f"{gain:.3g} +- {error:.2g}; add target samples or held-out ones."
    )
