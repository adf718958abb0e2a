"""`python -m paper_figures`: every figure and table, and a verdict on every statement."""
