"""How the tutorials' pictures look."""

import matplotlib as mpl

STYLE = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
}


def reset(_gallery_conf, _page):
    """Before and after each page: matplotlib as it comes, then our settings."""
    mpl.rcdefaults()
    mpl.use("agg")
    mpl.rcParams.update(STYLE)
