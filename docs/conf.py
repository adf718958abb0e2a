"""The documentation site: ``make docs`` builds it into docs/_build/html, warnings as errors.

Nothing in the built pages comes from elsewhere: formulas are MathML, written at build time, and
the only fonts and scripts are in the site itself.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# Most of a build is compilation of programs that run once.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

from fsd_jax import __version__  # noqa: E402

project = "fsd_jax"
author = "the authors of fsd_jax"
copyright = "the authors of fsd_jax; Apache-2.0"
version = release = __version__
html_title = f"fsd_jax {version}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "reference",
]
exclude_patterns = ["_build", "_ext", "tutorials"]
nitpicky = True

# The pages are written for GitHub as well, which knows $...$ and makes anchors of headings.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Docstrings say every shape in words; annotations such as Float[Array, "D d"] would hide the names.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "learn",
    "filename_pattern": r"\.py$",
    # The library may have changed though the page has not.
    "run_stale_examples": True,
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": ("pictures.reset",),
    # What is shown is printed, drawn, or a table; not the repr of a legend.
    "capture_repr": ("_repr_html_",),
    "image_srcset": ["2x"],
    "download_all_examples": False,
    "show_signature": False,
    # Its table loads scripts from other hosts.
    "write_computation_times": False,
    "parallel": 2,
    "remove_config_comments": True,
}
