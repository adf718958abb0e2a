"""What the properties draw: samples of every size, place, dtype, layout and degeneracy.

Two shapes of samples, one of each kind, and one of everything else: each is compiled.
"""

from typing import NamedTuple

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np

TALL, WIDE = (40, 6), (6, 40)
AMBIENT, LATENT = 12, 3
EPS = float(np.finfo(np.float32).eps)

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-12, 12).map(lambda e: 10.0**e)
offsets = st.one_of(st.just(0.0), st.floats(-2, 4).map(lambda e: 10.0**e))
degenerate = st.sampled_from(["full", "full", "rank one", "constant column", "equal rows"])
layouts = st.sampled_from(
    ["float32", "float64", "float16", "big-endian", "fortran", "strided", "reversed", "list", "jax"]
)


class Samples(NamedTuple):
    """`given` is what is passed; `exact` the same numbers in float64."""

    given: object
    exact: np.ndarray
    offset: float


def laid_out(x: np.ndarray, layout: str) -> tuple[object, np.ndarray]:
    """An array as users have it, and its numbers in float64."""
    if layout in ("float64", "list"):
        return (x.tolist() if layout == "list" else x), x
    y = x.astype(np.float16 if layout == "float16" else np.float32)
    exact = y.astype(np.float64)
    if layout == "big-endian":
        return y.astype(">f4"), exact
    if layout == "fortran":
        return np.asfortranarray(y), exact
    if layout == "strided":
        wide = np.full((2 * len(y), *y.shape[1:]), np.nan, np.float32)
        wide[::2] = y
        return wide[::2], exact
    if layout == "reversed":
        return y[::-1, ::-1].copy()[::-1, ::-1], exact
    return (jnp.asarray(y) if layout == "jax" else y), exact


@st.composite
def samples(draw, shapes=(TALL, WIDE), offset=offsets, kinds=degenerate, layout=layouts):
    """Rows about a mean that is `offset` times their spread, in units of a scale."""
    rng = np.random.default_rng(draw(seeds))
    n, ambient = draw(st.sampled_from(shapes))
    kind, place, how = draw(kinds), draw(offset), draw(layout)
    x = rng.normal(size=(n, ambient)) * rng.uniform(0.3, 1, ambient)
    if kind == "rank one":
        x = np.outer(x[:, 0], x[0])
    elif kind == "constant column":
        x[:, 0] = 0
    elif kind == "equal rows":
        x[n // 2 :] = x[0]
    # Half precision ends at 65504 and has 11 bits: neither scale nor offset.
    x = x + (0 if how == "float16" else place) * rng.choice([-1, 1], ambient)
    return Samples(*laid_out(x * (1 if how == "float16" else draw(scales)), how), place)


def masks(n: int):
    """Rows that count, two at least."""
    return (
        st.lists(st.booleans(), min_size=n, max_size=n).map(np.array).filter(lambda m: m.sum() > 1)
    )


def orthonormal(rng: np.random.Generator, k: int = LATENT) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(AMBIENT, k)))[0].astype(np.float32)
