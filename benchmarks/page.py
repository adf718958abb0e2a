"""Pages in one file: pictures inside, nothing loaded from elsewhere, our formulas set as such."""

import base64
import html
import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.table import Table
from fsd_jax._provenance import provenance

TEMPLATES = Path(__file__).parent / "templates"
SUBSCRIPT = re.compile(
    r"\b(n|m|sigma|lambda|delta|beta|c|C|A|G|x|W|q|f)_(ta|max|min|[a-zZ0-9])\b|(\|\|)_(F)"
)
GREEK = dict(
    sigma="σ",
    delta="δ",
    alpha="α",
    eps="ε",
    gamma="γ",
    iota="ι",
    beta="β",
    tau="τ",
    rho="ρ",
) | {"lambda": "λ"}
SIGNS = {"||": "‖", "-&gt;": "→", "&gt;=": "≥", "&lt;=": "≤"}


def render(template: str, **fields: Any) -> str:
    """A page from a template; text is escaped unless `prose` has set it."""
    found = _environment().get_template(template).render(**fields)
    return found.rstrip() + "\n"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"prose": prose, "number": number, "inside": inside}
    return made


def inside(path: Path) -> str:
    """A PNG file as the address of a picture."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def number(value: float | None) -> str:
    """At most four digits, or an integer with its thousands apart."""
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value):,}"
    return f"{value:.4g}"


def origin() -> str:
    """Commit, versions and machine of this run."""
    made = provenance()
    versions = ", ".join(f"{k} {v}" for k, v in made["versions"].items() if v)
    return f"Commit {made['git']}; {versions}; {made['device']}; {made['processor']}."


def of_others(tables: dict[str, Table]) -> list[str]:
    """Names of the tables that another commit's code computed, with that commit."""
    now = provenance()["git"]
    made = {name: table.made.get("git") for name, table in tables.items()}
    return [f"{name} ({commit})" for name, commit in made.items() if commit != now]


def prose(text: str) -> Any:
    """Plain words with indices and powers set as such."""
    from markupsafe import Markup

    safe = _raised(html.escape(text, quote=False))
    safe = SUBSCRIPT.sub(lambda m: f"{m[1] or m[3]}<sub>{m[2] or m[4]}</sub>", safe)
    for word, letter in GREEK.items():
        safe = re.sub(rf"\b{word}\b", letter, safe)
    for written, sign in SIGNS.items():
        safe = safe.replace(written, sign)
    return Markup(safe)


def _raised(text: str) -> str:
    """``^2`` and ``^(...)``, brackets within brackets too, as superscripts."""
    head, hat, rest = text.partition("^")
    if not hat:
        return text
    if rest.startswith("("):
        depths = itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in rest)
        end = next((i for i, depth in enumerate(depths, start=1) if depth == 0), len(rest))
        power = rest[1 : end - 1]
    else:
        end = len(rest) - len(rest.lstrip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        power = rest[:end]
    return f"{head}<sup>{power}</sup>{_raised(rest[end:])}"
