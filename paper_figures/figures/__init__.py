"""The figures and tables, by name: register a new one here, and nowhere else.

A module has ``SUMMARY``, one line; ``settings(quick)``, plain values that decide every number;
``compute(settings, work)``, which yields rows (`paper_figures.table.row`); and ``draw(table)``,
which returns a Matplotlib figure of the rows that are there. With ``IN_QUICK = False`` a quick run
makes it only if it is named; those with ``LONG = True`` are started first.
"""

FIGURES = {
    "table-1": "table_1",
    "lemma-5.1": "lemma_5_1",
    "theorem-5.2": "theorem_5_2",
    "pca": "pca",
    "few-shot-gain": "few_shot_gain",
    "noise": "noise",
    "appendix": "appendix",
    "checks": "checks",
    "sampler-orders": "sampler_orders",
    "ledger": "ledger",
    "theorem-4.3": "theorem_4_3",
    "memorisation": "memorisation",
    "figure-1": "figure_1",
    "figure-2": "figure_2",
    "u-net": "unet",
}
"""Name on the command line and in files, and the module beside this file."""
