"""The ledger as a table, and advice in words."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from fsd_jax import _checks
from fsd_jax.sampler._grid import ORDERS

METRICS = ("score_error", "kl", "w2")
"""``score_error`` averages over ``t`` in ``[delta, T]``; ``kl`` is ``KL(truth || generated)`` at
``delta``; ``w2`` is the squared distance to the clean truth."""

INGREDIENTS = (
    "decoder", "fit_time", "latent_variance", "residual_variance", "mean",
    "discretisation", "early_stopping", "finite_time",
)  # fmt: skip
"""What the error is split among, in the order of the rows of a `Ledger`."""

EFFORTS = {
    "fitting over all times": ("fit_time",),
    "target samples": ("decoder", "fit_time", "mean"),
    "source samples": ("latent_variance", "residual_variance"),
    "steps": ("discretisation",),
    "a smaller delta": ("early_stopping",),
    "a larger T": ("finite_time",),
}
"""What one can spend effort on, and the ingredients that it makes better."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Ledger:
    """Costs by metric (`METRICS`) and ingredient (`INGREDIENTS`).

    Under `jax.vmap` every array gets a leading axis of replicates, and `rows` gives means with
    standard errors.

    Attributes:
        total: ``(3,)`` the metrics of the model as it is.
        alone: ``(3, 8)`` the metrics when everything is exact but this ingredient.
        removed: ``(3, 8)`` how much the metrics fall when only this ingredient is made exact.
        saved: ``(3, 6)`` how much they fall when all that an effort (`EFFORTS`) buys is exact.
        missing: number of directions that the decoder leaves out.
        method: the sampler.
        refitted: whether the row ``fit_time`` was asked for.
    """

    total: Float[Array, "*batch 3"]
    alone: Float[Array, "*batch 3 8"]
    removed: Float[Array, "*batch 3 8"]
    saved: Float[Array, "*batch 3 6"]
    missing: Int[Array, "*batch"]
    method: str = field(metadata={"static": True})
    refitted: bool = field(metadata={"static": True})

    def __repr__(self) -> str:
        batch = self.total.shape[:-1]
        facts = [f"batch={batch}"] if batch else []
        if not batch and not _checks.is_traced(self.total):
            facts += [f"{m}={float(v):.4g}" for m, v in zip(METRICS, self.total, strict=True)]
        return f"Ledger({', '.join([*facts, f'method={self.method}'])})"

    @property
    def interaction(self) -> Float[Array, "*batch 3 8"]:
        """``removed - alone``: what an ingredient costs only because others are wrong too."""
        return self.removed - self.alone

    def rows(self, metric: str | None = None) -> list[dict[str, Any]]:
        """The table as plain rows, for a figure or a data frame.

        For every metric one row an ingredient, and a row ``"interaction"`` with what the others
        leave, so that the columns ``alone`` and ``removed`` sum to ``total``. A batch gives means
        and their standard errors; a single ledger is exact and has None there.

        Args:
            metric: one of `METRICS`; None is all.

        Raises:
            ValueError: for another metric, or under a trace.
        """
        wanted = METRICS if metric is None else (metric,)
        return [row for name in wanted for row in self._rows(name)]

    def _rows(self, metric: str) -> list[dict[str, Any]]:
        m = self._index(metric)
        total = np.asarray(self.total, np.float64)[..., m]
        columns = {
            name: np.asarray(getattr(self, name), np.float64)[..., m, :]
            for name in ("alone", "removed")
        }
        for name, values in columns.items():
            rest = total[..., None] - np.sum(values, axis=-1, keepdims=True)
            columns[name] = np.concatenate([values, rest], axis=-1)
        columns["interaction"] = columns["removed"] - columns["alone"]
        rows = []
        for i, ingredient in enumerate((*INGREDIENTS, "interaction")):
            if ingredient == "fit_time" and not self.refitted:
                continue
            row: dict[str, Any] = {"metric": metric, "ingredient": ingredient}
            for name, values in (*columns.items(), ("total", total[..., None])):
                entry = values[..., min(i, values.shape[-1] - 1)]
                row[name], row[f"{name}_stderr"] = _mean(entry)
            rows.append(row)
        return rows

    def advice(self, metric: str = "w2") -> str:
        """Where the next unit of effort should go, in words.

        What twice as much saves is judged from `saved`: half of it for samples (errors fall like
        ``1/n``, R4) and for ``delta``, all of it for ``T`` and for another fit. A method of order q
        has an error vector like ``h^q``: of what it costs alone ``1 - 4^-q`` goes, of its
        interaction ``1 - 2^-q``.

        Args:
            metric: one of `METRICS`.

        Raises:
            ValueError: for another metric, or under a trace.
        """
        m = self._index(metric)

        def mean(values: Array) -> Any:
            array = np.asarray(values, np.float64)[..., m, :]
            return array.reshape(-1, array.shape[-1]).mean(axis=0)

        total = float(mean(self.total[..., None])[0])
        saved = mean(self.saved)
        once = saved * np.array([1.0, 0.5, 0.5, 0.0, 0.5, 1.0])
        order, steps = ORDERS[self.method], list(EFFORTS).index("steps")
        alone = mean(self.alone)[INGREDIENTS.index("discretisation")]
        once[steps] = alone * (1 - 4.0**-order) + (saved[steps] - alone) * (1 - 2.0**-order)
        lines = [f"{metric} is {total:.3g}."]
        for name, whole, half in zip(EFFORTS, saved, once, strict=True):
            if name.startswith("fitting") and not self.refitted:
                continue
            title = name[0].upper() + name[1:]
            if whole <= 1e-3 * total:
                lines.append(f"{title}: no gain worth having ({whole:.2g}).")
                continue
            words = f"{title}: perfection saves {whole:.3g} ({whole / total:.0%})"
            if name.endswith(("samples", "steps")):
                words += f", twice as many about {half:.3g}"
            lines.append(f"{words}.")
        missing = float(np.max(np.asarray(self.missing)))
        if missing > 0:
            lines.append(
                f"The decoder leaves out {missing:.0f} of the directions; while target samples are "
                "fewer than directions, its cost falls by one direction a sample, not like 1/n."
            )
        best = int(np.argmax(once))
        if once[best] <= 0.01 * total:
            lines.append("Next: nothing, no effort listed here saves more than 1%.")
        else:
            lines.append(f"Next: {list(EFFORTS)[best]}.")
        return " ".join(lines)

    def _index(self, metric: str) -> int:
        _checks.choice("metric", metric, METRICS)
        if _checks.is_traced(self.total):
            raise ValueError("rows and advice need numbers; call them outside of jit and vmap")
        return METRICS.index(metric)


def _mean(values: np.ndarray) -> tuple[float, float | None]:
    """Mean and standard error over replicates; one value is exact and has no error."""
    if values.ndim == 0:
        return float(values), None
    count = values.size
    error = np.std(values, ddof=1) / count**0.5 if count > 1 else np.nan
    return float(np.mean(values)), float(error)
