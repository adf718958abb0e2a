"""Table 1, the target samples that the paper asks for, by every rule that could have made it."""

from collections.abc import Iterator
from typing import Any

from fsd_jax import theory
from fsd_jax.theory import log_exponent
from fsd_jax.theory._table_one import TABLE
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import Work

SUMMARY = "Table 1 by its printed row, by each rule, and by the exact curves of the latent Gaussian"
PRINTED, STATED, SHORT, FLOORED = "printed", "stated", "four_over_d", "at least 5, four_over_d"
WHOLE, MATCHED = "every direction", "match_source"
WORDS = {
    PRINTED: "printed",
    STATED: "Theorem 4.3's condition",
    SHORT: r"$\lceil n_s^{4/d}\rceil$",
    FLOORED: r"$\max(5, \lceil n_s^{4/d}\rceil)$",
    WHOLE: r"all directions seen: $d$",
    MATCHED: r"exact: target's part $\leq$ source's",
}


def settings(quick: bool) -> dict[str, Any]:
    """The world of the exact rule; both sizes are the same."""
    del quick
    return {"latent_variance": 1.0, "t": 0.5}


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """One cell a data set and rule; a rule that gives no number says so in a note."""
    work.tell("Table 1")
    by_rule = {rule: theory.table_one(rule) for rule in (PRINTED, STATED, SHORT)}
    for place, given in enumerate(TABLE):
        size: dict[str, Any] = {"data": given.name, "n_s": given.n_s, "d": given.latent_dim}
        values: dict[str, int | None] = {rule: by_rule[rule][place] for rule in by_rule}
        values[FLOORED] = max(5, values[SHORT] or 0)
        values[WHOLE] = given.latent_dim
        values[MATCHED] = theory.plan(
            rule=MATCHED,
            latent_dim=given.latent_dim,
            n_s=given.n_s,
            latent_variance=settings["latent_variance"],
            time=settings["t"],
        ).n_ta
        for rule, value in values.items():
            yield row("n_ta", value, rule=rule, **size)
        yield row("alpha", log_exponent(given.n_s, given.latent_dim), **size)


def draw(table: Table) -> Any:
    """The table, with one line a rule."""
    figure, axes = style.canvas(figsize=(9.2, 3.3))
    names = list(dict.fromkeys(r["data"] for r in table.present(series="n_ta")))
    first = {name: table.present(series="n_ta", data=name)[0] for name in names}
    lines = [
        [r"source samples $n_s$", *(f"{first[n]['n_s']:,}" for n in names)],
        [r"latent dimension $d$", *(str(first[n]["d"]) for n in names)],
        [r"$\alpha(n_s) = d\,\log\log n_s/\log n_s$", *(_alpha(table, n) for n in names)],
    ]
    for rule, words in WORDS.items():
        lines.append([words, *(_cell(table, rule, name) for name in names)])
    style.text_table(axes[0, 0], ["", *names], lines, widths=(0.38, *(0.124 for _ in names)))
    axes[0, 0].set_title(r"Table 1: target samples $n_{ta}$ by each rule", loc="left", pad=12)
    return figure


def _alpha(table: Table, name: str) -> str:
    found = table.present(series="alpha", data=name)
    return f"{found[0]['value']:.2f}" if found else "missing"


def _cell(table: Table, rule: str, name: str) -> str:
    found = table.present(series="n_ta", rule=rule, data=name)
    if not found:
        return "missing"
    return "no number" if found[0]["value"] is None else f"{found[0]['value']:,}"
