"""The API reference, written from the public names themselves: no list that can rot.

Each room of the library gets a page in docs/api/. A public name is one in the ``__all__`` of the
package or of one of its public rooms. The build warns, hence fails, when a public name ends up
without an entry.
"""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
from pathlib import Path

from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util import logging

import fsd_jax

log = logging.getLogger(__name__)
NAPOLEON = Config(napoleon_use_ivar=True, napoleon_use_rtype=False, napoleon_attr_annotations=False)
# Rooms whose names are public under `fsd_jax` itself share a page with their folder.
HEAD = """API reference
=============

Every public name, by room, in the order in which rooms build on each other. All names but those of
the rooms ``fsd_jax.*`` below stand in ``fsd_jax`` itself: ``import fsd_jax as fsd``.

.. toctree::
   :hidden:

"""
# The order of the subject; what is missing here comes last, so nothing gets lost.
ORDER = (
    "process",
    "latent",
    "moments",
    "linear_model",
    "minimizer",
    "landscape",
    "score",
    "fewshot",
    "theory",
    "simulate",
    "sampler",
    "ledger",
    "sweep",
    "latent_net",
    "image",
)


def _files(module):
    """The files of a room, or the one that it is."""
    names = [m.name for m in pkgutil.iter_modules(getattr(module, "__path__", []))]
    return [importlib.import_module(f"{module.__name__}.{name}") for name in names] or [module]


def rooms():
    """Public names by page: ``{page: [(module, public names), ...]}``."""
    pages: dict[str, list] = {}
    plain: dict[str, list[str]] = {}
    for name in fsd_jax.__all__:
        value = getattr(fsd_jax, name)
        if inspect.ismodule(value):
            parts = [getattr(value, part) for part in value.__all__]
            if not all(map(inspect.ismodule, parts)):
                parts = [value]
            pages[name] = [(part.__name__, part.__all__) for part in parts]
        elif hasattr(value, "__module__"):
            plain.setdefault(value.__module__.split(".")[1], []).append(name)
    for room, names in plain.items():
        pages.setdefault(room.lstrip("_"), []).insert(0, ("fsd_jax", names))
    place = {name: i for i, name in enumerate(ORDER)}
    return dict(sorted(pages.items(), key=lambda item: (place.get(item[0], len(place)), item[0])))


def public():
    """All dotted public names."""
    return [f"{m}.{name}" for page in rooms().values() for m, names in page for name in names]


def _entry(module, name):
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        return f".. autoclass:: {module}.{name}\n   :members:\n   :special-members: __call__\n"
    if callable(value):
        return f".. autofunction:: {module}.{name}\n"
    about = _tidy(_constant(module, name), [module]).replace("\n", "\n   ")
    return f".. py:data:: {name}\n   :module: {module}\n   :value: {value!r}\n\n   {about}\n"


def _constant(module, name):
    """The string under the assignment of a constant, in whichever file of the room it stands."""
    home = importlib.import_module(module)
    for found in _files(home):
        body = ast.parse(inspect.getsource(found)).body
        for line, below in itertools.pairwise(body):
            target = getattr(line, "targets", [getattr(line, "target", None)])[0]
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if getattr(target, "id", None) == name and documented:
                return inspect.cleandoc(below.value.value)
    log.warning("%s.%s is public and has no docstring under it", module, name)
    return ""


def _about(room, parts):
    """What the room says about itself, if it is one module or a folder with a docstring."""
    found = importlib.import_module(parts[0][0])
    if found is fsd_jax:
        for name in (room, f"_{room}"):
            try:
                found = importlib.import_module(f"fsd_jax.{name}")
                break
            except ModuleNotFoundError:
                continue
    elif len(parts) > 1:
        found = importlib.import_module(found.__package__)
    return inspect.getdoc(found)


def _title(room, parts):
    return room if parts[0][0] == "fsd_jax" else f"fsd_jax.{room}"


def page(room, parts):
    """One page."""
    title = _title(room, parts)
    text = [f"{title}\n{'=' * len(title)}\n", _tidy(_about(room, parts), ()), ""]
    for module, names in parts:
        if len(parts) > 1:
            text += [f"{module}\n{'-' * len(module)}\n"]
            text += [_tidy(inspect.getdoc(importlib.import_module(module)), ()), ""]
        text += [_entry(module, name) for name in names]
    return "\n".join(text)


def write(app):
    """Write the pages; those that would not change are left alone, so that builds stay quick."""
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    found = rooms()
    pages = {name: page(name, parts) for name, parts in found.items()}
    lines = [f"   {name}\n" for name in pages]
    for name, parts in found.items():
        first = _tidy(_about(name, parts).split("\n\n")[0].replace("\n", " "), ())
        lines.append(f"\n- :doc:`{_title(name, parts)} <{name}>`: {first}")
    pages = {"index": HEAD + "".join(lines) + "\n", **pages}
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def check(_app, env):
    """Warn about each public name without an entry."""
    known = env.get_domain("py").objects
    for name in public():
        if name not in known:
            log.warning("%s is public and has no entry in the API reference", name)


_CODE = re.compile(r"(``.+?``|`[^`\n]+`)", re.DOTALL)
_SECTION = re.compile(r"(Args|Returns|Raises|Example|Examples|Attributes|Yields|Note):$")


def _target(name, near):
    """Dotted public name that a docstring means by `name`; None if there is none."""
    known = set(public())
    for place in (*near, "fsd_jax", ""):
        full = f"{place}.{name}".lstrip(".")
        if full in known:
            return full
        owner, _, member = full.rpartition(".")
        if owner in known:
            found = importlib.import_module(owner.rpartition(".")[0])
            if hasattr(getattr(found, owner.rpartition(".")[2]), member):
                return full
    return None


def _tidy(text, near):
    """Plain text with `names` and ``code``, as the house writes it, to reStructuredText."""
    parts = _CODE.split(text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([*|_\\])", r"\\\1", part)
        elif not part.startswith("``"):
            name = part.strip("`")
            full = _target(name, near)
            parts[i] = f":py:obj:`{name} <{full}>`" if full else f"``{name}``"
    return "".join(parts)


def docstring(app, what, name, obj, options, lines):
    """Formulas, which are indented, become literal blocks; names in backticks become links."""
    near = (
        [name.rpartition(".")[0], name] if what in ("method", "property", "attribute") else [name]
    )
    near.append(near[0].rpartition(".")[0])
    done, start, inside = [], 0, False
    text = list(lines)
    while start < len(text):
        line = text[start]
        inside = inside or bool(_SECTION.match(line))
        stop = start
        if line.startswith("    ") and not inside:
            while stop < len(text) and (text[stop].startswith("    ") or not text[stop].strip()):
                stop += 1
            done += [".. code-block:: text", "", *text[start:stop], ""]
        elif line.lstrip().startswith(">>>"):
            while stop < len(text) and text[stop].strip():
                stop += 1
            done += text[start:stop]
        else:
            # Names and ``code`` may run over a line's end, so a whole paragraph is read at once.
            while stop < len(text) and _prose(text[stop], stop > start, inside):
                stop += 1
            stop = max(stop, start + 1)
            done += _tidy("\n".join(text[start:stop]), near).split("\n")
        start = stop
    # Napoleon is called from here, because as an extension it would take what stands before a colon
    # in the first line of an attribute or property for its type. It does not do that to methods.
    kind = "method" if what in ("attribute", "property", "data") else what
    done = GoogleDocstring(done, NAPOLEON, app, kind, name, obj, options).lines()
    lines[:] = done


def _prose(line, going_on, inside):
    if line.lstrip().startswith(">>>"):
        return False
    if going_on and line.startswith("    ") and not inside:
        return False
    return bool(line.strip())


def setup(app):
    """Write before Sphinx reads, tidy what it reads, check when all is read."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("env-check-consistency", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
