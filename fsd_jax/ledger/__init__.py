"""Which ingredient of a few-shot model costs how much, and where the next effort should go."""

from fsd_jax.ledger._plan_ledger import plan_ledger
from fsd_jax.ledger.accounts import account
from fsd_jax.ledger.table import EFFORTS, INGREDIENTS, METRICS, Ledger

__all__ = ["EFFORTS", "INGREDIENTS", "METRICS", "Ledger", "account", "plan_ledger"]
