"""Is ten enough? Held-out or leave-one-out losses of a model beside its baselines, in words."""

from dataclasses import dataclass

import numpy as np


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

    Attributes:
        model: the model's own loss (its difference is zero).
        source: the better of "source as is" with the target's and with the source's mean.
        target_only: trained on the target alone, its dimension chosen by leave-one-out.
        evaluation: ``"leave-one-out"`` or ``"held-out"``.
        samples: number of samples the losses are averaged over.
        rank: directions that the target determined.
        latent_dim: ``d``.
        floor: ``max(d - rank, 0)``, a lower bound on ``||VV' - AA'||_F^2`` for a decoder whose
            columns lie in the span of the target samples (R6).
        enough: True, False, or None when the standard error does not allow an answer.
        verdict: one sentence.
    """

    model: Comparison
    source: Comparison
    target_only: Comparison
    evaluation: str
    samples: int
    rank: int
    latent_dim: int
    floor: int
    enough: bool | None
    verdict: str

    def __repr__(self) -> str:
        return f"Report({self.evaluation} on {self.samples} samples: {self.verdict})"

    def __str__(self) -> str:
        rows = [
            f"{self.evaluation} loss over {self.samples} samples (integrated, lower is better)",
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
) -> Report:
    """Build a `Report` from per-sample losses on the same samples."""
    model = _row(name, ours, ours)
    source = min((_row(n, v, ours) for n, v in baselines.items()), key=lambda row: row.loss)
    scratch = _row(target_only[0], target_only[1], ours)
    enough, verdict = _verdict(source, scratch, n_ta)
    return Report(
        model=model,
        source=source,
        target_only=scratch,
        evaluation=evaluation,
        samples=len(ours),
        rank=rank,
        latent_dim=latent_dim,
        floor=max(latent_dim - rank, 0),
        enough=enough,
        verdict=verdict,
    )


def _row(name: str, losses: np.ndarray, ours: np.ndarray) -> Comparison:
    losses, ours = losses.astype(np.float64), ours.astype(np.float64)
    root = max(len(losses), 1) ** 0.5

    def stderr(values: np.ndarray) -> float:
        known = len(values) > 1 and bool(np.all(np.isfinite(values)))
        return float(np.std(values, ddof=1) / root) if known else float("nan")

    return Comparison(
        name=name,
        loss=float(np.mean(losses)),
        loss_stderr=stderr(losses),
        difference=float(np.mean(losses - ours)),
        difference_stderr=stderr(losses - ours),
    )


def _verdict(source: Comparison, scratch: Comparison, n_ta: int) -> tuple[bool | None, str]:
    if not np.isfinite(source.difference_stderr):
        return None, "Cannot tell: one evaluation sample gives no error bar; hold out a few more."
    best = min((source, scratch), key=lambda row: row.loss)
    gain, error = best.difference, best.difference_stderr
    share = gain / abs(best.loss) if best.loss else 0.0
    if gain > 2 * error:
        return True, (
            f"Yes: {n_ta} samples are enough for a gain over '{best.name}' "
            f"({share:.1%} of its loss, {gain:.3g} +- {error:.2g})."
        )
    if gain < -2 * error:
        return False, (
            f"No: with {n_ta} samples '{best.name}' is better "
            f"(by {-share:.1%} of its loss, {-gain:.3g} +- {error:.2g}); use it or add samples."
        )
    return None, (
        f"Cannot tell: with {n_ta} samples the model and '{best.name}' differ by "
        f"{gain:.3g} +- {error:.2g}; add target samples or held-out ones."
    )
