"""The one conversion: what goes in comes out, whatever it was stored as."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fsd_jax import _checks
from tests.properties import strategies as draw

INTEGERS = st.sampled_from(["i1", "u1", ">i2", "<i4", ">u4", "i8"])


@given(draw.samples())
def test_array_keeps_every_number(x):
    """Widening is exact, and nothing else happens to a number."""
    found = _checks.array("x", x.given)
    assert found.dtype.isnative
    assert found.dtype in (np.float32, np.float64)
    assert isinstance(found, jax.Array) == isinstance(x.given, jax.Array)
    np.testing.assert_array_equal(np.asarray(found, np.float64), x.exact)


@given(draw.samples())
def test_floating_and_samples_round_once(x):
    """Only float64 is rounded, by half an eps, and the status says so."""
    for found, status in (_checks.floating("x", x.given, ndim=(2,)), _checks.samples("x", x.given)):
        assert isinstance(found, jax.Array)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, x.exact.astype(np.float32))
        narrowed = np.asarray(x.given).dtype == np.float64
        assert (status == _checks.Status.DOWNCAST) == narrowed


@given(INTEGERS, draw.seeds)
def test_integers_pass_array_unchanged(dtype, seed):
    info = np.iinfo(dtype)
    x = np.random.default_rng(seed).integers(
        info.min, info.max, (3, 4), np.dtype(dtype).newbyteorder("=")
    )
    found = _checks.array("x", x.astype(dtype))
    assert found.dtype.isnative
    assert found.dtype.kind == np.dtype(dtype).kind
    np.testing.assert_array_equal(found, x)


@given(draw.samples(layout=st.just("float32")), st.data())
def test_rows_that_are_masked_whole_are_left_out(x, data):
    mask = data.draw(draw.masks(len(x.exact)))
    hidden = np.ma.array(x.given, mask=np.repeat(~mask[:, None], x.exact.shape[1], axis=1))
    np.testing.assert_array_equal(_checks.sample_rows("x", hidden), x.exact[mask])
