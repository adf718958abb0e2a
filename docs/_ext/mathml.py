"""Formulas as MathML, which browsers draw by themselves: no script, no network.

Brackets that grow and large sums need a mathematical font. Not every machine has one, so the site
brings its own: STIX Two Math, which the package ziamath ships (SIL Open Font License).
"""

import re
import unicodedata
from importlib import resources
from pathlib import Path

from docutils import nodes
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert
from sphinx.util import logging

log = logging.getLogger(__name__)
# What the converter writes against what MathML Core, which browsers draw, asks for.
_TIDY = (
    # Spaces have lengths, not names.
    ('width="thinmathspace"', 'width="0.1667em"'),
    (r"<mi>(?:~|&#x0007E;)</mi>", "<mo>&#x0223C;</mo>"),
    (r"<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>"),
    # A prime has its height already; as an exponent it would be raised twice, and made small.
    (
        "<mi>&#x02032;</mi>",
        '<mpadded voffset="-0.33em" height="0"><mstyle scriptlevel="0"><mo lspace="0" rspace="0">'
        "&#x02032;</mo></mstyle></mpadded>",
    ),
    # Bars and slashes are not relations.
    (
        r"<mo([^>]*)>(\||/|&#x0007C;|&#x0002F;|&#x02016;|&#x02225;)</mo>",
        r'<mo\1 lspace="0" rspace="0">\2</mo>',
    ),
    # Named functions keep a distance from letters, not from brackets.
    (
        r"<m[io]>(log|exp|min|max|det|sin|cos)</m[io]>(?=<mo[^>]*>&#x00028;)",
        r'<mo lspace="0.1667em" rspace="0">\1</mo>',
    ),
    (
        r"<m[io]>(log|exp|min|max|det|sin|cos)</m[io]>",
        r'<mo lspace="0.1667em" rspace="0.1667em">\1</mo>',
    ),
    (r'(<mrow>|&#x00028;</mo>|\[</mo>)<mo lspace="0.1667em"', r'\1<mo lspace="0"'),
)
_LETTERS = {"double-struck": "DOUBLE-STRUCK", "script": "SCRIPT"}
_VARIANT = re.compile(r'<mi mathvariant="(double-struck|script)">(\w)</mi>')
_TAG = re.compile(r"\\tag\{(.*?)\}")


def mathml(formula: str, *, display: bool) -> str:
    """The formula as MathML.

    Raises:
        ValueError: the converter does not know a command in it.
    """
    try:
        written = convert(formula, display="block" if display else "inline")
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    # What it does not know it passes on as text.
    if unknown := re.findall(r"\\[a-zA-Z]+", written):
        raise ValueError(f"unknown: {', '.join(unknown)}")
    for pattern, instead in _TIDY:
        written = re.sub(pattern, instead, written)
    return _VARIANT.sub(_letter, written)


def _letter(match):
    """A blackboard or script letter as its own character; the attribute is not drawn."""
    style, letter = _LETTERS[match[1]], match[2].upper()
    try:
        character = unicodedata.lookup(f"MATHEMATICAL {style} CAPITAL {letter}")
    except KeyError:
        # Those that were characters before the alphabet was, such as that of the real numbers.
        character = unicodedata.lookup(f"{style} CAPITAL {letter}")
    return f"<mi>{character}</mi>"


def _written(node, *, display):
    formula = node.astext()
    tag = _TAG.search(formula)
    try:
        found = mathml(_TAG.sub("", formula), display=display)
    except ValueError as error:
        log.warning("formula %r: %s", formula, error, location=node)
        found = f"<code>{nodes.unescape(formula)}</code>"
    return found, tag[1] if tag else None


def _inline(translator, node):
    translator.body.append(_written(node, display=False)[0])
    raise nodes.SkipNode


def _block(translator, node):
    found, tag = _written(node, display=True)
    label = f'<span class="tag">({tag})</span>' if tag else ""
    translator.body.append(f'<div class="math">{found}{label}</div>\n')
    raise nodes.SkipNode


def _font(app, error):
    """Put the font beside the style sheet, in the compressed form for the web."""
    path = Path(app.outdir, "_static", "STIXTwoMath.woff")
    if error or app.builder.format != "html" or path.exists():
        return
    with resources.files("ziamath").joinpath("fonts/STIXTwoMath-Regular.ttf").open("rb") as file:
        font = TTFont(file)
        font.flavor = "woff"
        font.save(path)


def setup(app):
    """Register the renderer; conf.py chooses it."""
    app.connect("build-finished", _font)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
