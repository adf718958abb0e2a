"""Trained networks: Theorem 4.3 and Section 4."""
