import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import simulate


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [2, 4, 30])
def test_bartlett_has_the_wishart_moments(n):
    dim, draws = 4, 20_000
    keys = jax.random.split(jax.random.key(n), draws)
    factors = np.asarray(jax.vmap(lambda k: simulate.bartlett_factor(k, jnp.int32(n), dim))(keys))
    assert np.all(np.tril(factors, -1) == 0)
    assert np.all(factors[:, n:] == 0)
    scatter = np.einsum("rki,rkj->rij", factors, factors)
    error = scatter.std(axis=0, ddof=1) / draws**0.5
    assert np.all(np.abs(scatter.mean(axis=0) - n * np.eye(dim)) < 4.5 * error)
    # E tr S^2 = n d (n + d + 1).
    squares = np.sum(scatter**2, axis=(1, 2))
    expected = n * dim * (n + dim + 1)
    assert abs(squares.mean() - expected) < 4 * squares.std() / draws**0.5
