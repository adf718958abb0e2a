import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from fsd_jax import _krylov, _linalg, _spectra
from tests import reference

pytestmark = pytest.mark.oldest


def _data(n, ambient, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=(n, ambient)).astype(dtype)


def test_eigh_descending():
    a = np.diag([1.0, 3.0, 2.0]).astype(np.float32)
    values, vectors = _linalg.eigh_descending(a)
    np.testing.assert_allclose(values, [3, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(a @ vectors, vectors * values, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 3), (3, 5)])
def test_orthonormal_columns_span_the_input(shape):
    a = _data(*shape)
    q = _linalg.orthonormal_columns(a)
    assert q.shape == (shape[0], min(shape))
    np.testing.assert_allclose(q.T @ q, np.eye(min(shape)), atol=1e-6)
    np.testing.assert_allclose(q @ (q.T @ a), a, atol=1e-5)


def test_orthonormal_columns_of_null_columns_are_still_orthonormal():
    a = np.concatenate([_data(6, 2), np.zeros((6, 2), np.float32)], axis=1)
    q = _linalg.orthonormal_columns(a)
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-6)


def test_left_singular_and_singular_values():
    a = _data(8, 3)
    u, s = _linalg.left_singular(a)
    np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), rtol=1e-5)
    np.testing.assert_allclose(_linalg.singular_values(a), s, rtol=1e-5)
    np.testing.assert_allclose(u.T @ u, np.eye(3), atol=1e-6)
    np.testing.assert_allclose((u * s**2) @ u.T, a @ a.T, atol=1e-4)


def test_sqrtm_of_a_singular_matrix(dtype):
    a = _data(5, 3, dtype)
    C = a @ a.T
    root = _linalg.sqrtm_psd(C)
    np.testing.assert_allclose(root @ root, C, atol=100 * np.finfo(dtype).eps * C.max())
    expected = scipy.linalg.sqrtm(np.asarray(C, np.float64) + 1e-14 * np.eye(5)).real
    np.testing.assert_allclose(root, expected, atol=3e-3 if dtype == np.float32 else 1e-6)


@pytest.mark.parametrize(("n", "ambient"), [(4, 9), (9, 4), (5, 5), (1, 6), (6, 1)])
@pytest.mark.parametrize("route", ["svd", "gram"])
def test_spectra_against_dense(route, n, ambient):
    x = _data(n, ambient)
    k = min(n, ambient)
    count = jnp.float32(n)
    if route == "svd":
        found = _spectra.svd_spectrum(x, count, k)
    else:
        found = _spectra.gram_spectrum(x, count, k, jnp.int32(k))
    expected = reference.eigenpairs(reference.second_moment(x))[0][:k]
    np.testing.assert_allclose(found.values, expected, rtol=1e-3)
    dense = (found.basis * found.values) @ found.basis.T
    np.testing.assert_allclose(dense, reference.second_moment(x), atol=1e-5)
    assert float(found.next_value) == 0
    assert bool(found.trusted)


def test_null_directions_are_cleared():
    x = _data(3, 8)
    x = np.concatenate([x, x])
    for found in (
        _spectra.svd_spectrum(x, jnp.float32(6), 6),
        _spectra.gram_spectrum(x, jnp.float32(6), 6, jnp.int32(3)),
    ):
        assert np.all(np.asarray(found.values[3:]) == 0)
        assert np.all(np.asarray(found.basis[:, 3:]) == 0)
        assert np.all(np.asarray(found.values[:3]) > 0.1)


@pytest.mark.result("R15")
@pytest.mark.parametrize(
    ("values", "cut", "safe"),
    [
        ([1.0, 0.5, 0.1], 2, True),
        ([1.0, 0.5, 0.5], 2, False),
        ([1.0, 1e-7, 0.0], 2, False),
        ([1.0, 1e-4, 0.0], 2, True),
        ([1.0, 1.0, 1.0], 3, True),
        ([0.0, 0.0, 0.0], 2, True),
        ([1.0, 0.5, 0.1], 0, True),
    ],
)
def test_squared_is_safe_looks_at_the_gap_of_the_cut(values, cut, safe):
    assert bool(_linalg.squared_is_safe(jnp.array(values), jnp.int32(cut))) is safe


def test_krylov_refuses_data_that_are_too_small():
    with pytest.raises(ValueError, match="krylov"):
        _krylov.krylov_spectrum(_data(4, 9), None, None, jnp.float32(4), 4, jax.random.key(0))


def test_after_changes_nothing_but_the_order():
    x = jnp.array([1.5, -2.0])
    for done in (jnp.ones((2, 2)), jnp.array(jnp.nan), jnp.array([jnp.inf])):
        np.testing.assert_array_equal(_linalg.after(x, done), x)
    # The dependency is still there in the program that runs.
    run = jax.jit(lambda a, b: _linalg.after(a, jnp.sin(b)))
    assert "sine(" in run.lower(x, x).compile().as_text()
