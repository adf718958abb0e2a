"""One module a case. Each has a `SUMMARY` line and ``run(context)``, which yields records."""
