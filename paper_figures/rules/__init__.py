"""The rules: one function a statement, from the results table of a figure to a verdict."""
