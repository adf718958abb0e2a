"""Which ingredient of a few-shot model costs how much, and where the next effort should go."""

from fsd_jax.ledger._account import account
from fsd_jax.ledger._ledger import EFFORTS, INGREDIENTS, METRICS, Ledger
from fsd_jax.ledger._plan_ledger import plan_ledger

__all__ = ["EFFORTS", "INGREDIENTS", "METRICS", "Ledger", "account", "plan_ledger"]
