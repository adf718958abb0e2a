import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import fsd_jax as fsd

SCHEDULES = [
    fsd.VP(),
    fsd.VP.constant(2.5),
    fsd.VP.linear(0.1, 20.0),
    fsd.VP.scheduled((0.0, 0.5, 2.0), (0.2, 0.2, 3.0)),
]


PATHS = [
    fsd.VE(),
    fsd.Flow(),
    fsd.GaussianPath(signal=lambda t: 1 / (1 + t), noise_variance=lambda t: t**3),
    fsd.GaussianPath(signal=lambda t: 1 - t, noise_variance=lambda t: t**2, end=1.0),
    *SCHEDULES[1:],
]


def _rate(process, t):
    return np.interp(t, process.knots, process.rates)


@pytest.mark.parametrize("t", [1e-30, 1e-12, 1e-7, 1e-3])
def test_noise_variance_keeps_its_digits_as_t_vanishes(t):
    value = fsd.VP().noise_variance(jnp.float32(t))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(float(value), -np.expm1(-np.float64(np.float32(t))), rtol=3e-7)


def test_signal_tends_to_one_and_to_zero():
    process = fsd.VP()
    assert float(process.signal(jnp.float32(1e-12))) == 1.0
    assert float(process.signal_variance(jnp.float32(60.0))) == pytest.approx(
        np.exp(-60.0), rel=1e-5
    )
    assert float(process.noise_variance(jnp.float32(60.0))) == 1.0


@pytest.mark.result("Model and process")
def test_levels_are_consistent(dtype):
    process = fsd.VP.linear(0.1, 2.0)
    t = jnp.asarray([0.01, 0.3, 1.0, 4.0], dtype)
    signal2, noise2 = process.signal_variance(t), process.noise_variance(t)
    assert noise2.dtype == dtype
    np.testing.assert_allclose(signal2 + noise2, 1, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(process.signal(t) ** 2, signal2, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("process", SCHEDULES)
@pytest.mark.parametrize("t", [0.05, 0.5, 1.3, 7.0])
@pytest.mark.usefixtures("x64")
def test_integrated_rate_matches_quadrature_of_the_rate(process, t):
    points = [k for k in process.knots if 0 < k < t] or None
    expected = integrate.quad(lambda s: _rate(process, s), 0, t, points=points)[0]
    np.testing.assert_allclose(process.integrated_rate(t), expected, rtol=1e-12)


@pytest.mark.parametrize("process", SCHEDULES)
def test_host_time_undoes_the_integral(process):
    t = np.array([0.0, 1e-6, 0.05, 0.5, 1.0, 1.3, 2.0, 7.0])
    np.testing.assert_allclose(
        process.host_time(process.host_integrated_rate(t)), t, rtol=1e-12, atol=1e-18
    )


@pytest.mark.result("Any Gaussian path")
@pytest.mark.parametrize("process", PATHS)
@pytest.mark.usefixtures("x64")
def test_a_path_on_its_clock_and_scale_is_variance_preserving(process):
    t = np.array([1e-3, 0.3, 0.9])
    level, scale = process.integrated_rate(t), process.scale(t)
    signal, noise = process.signal(t), process.noise_variance(t)
    np.testing.assert_allclose(signal / scale, fsd.VP().signal(level), rtol=1e-13)
    np.testing.assert_allclose(noise / scale**2, fsd.VP().noise_variance(level), rtol=1e-12)
    np.testing.assert_allclose(process.shares(t), fsd.VP().host_variances(level), rtol=1e-12)
    np.testing.assert_allclose(process.host_integrated_rate(t), level, rtol=1e-13)
    np.testing.assert_allclose(process.host_time(level), t, rtol=1e-11)
    np.testing.assert_allclose(process.log_signal_variance(t), 2 * np.log(signal), atol=1e-14)
    # The velocity's terms, by differences.
    d = 1e-6
    slope = lambda f: (np.asarray(f(t + d)) - np.asarray(f(t - d))) / (2 * d)
    p, q = process.drift(t)
    np.testing.assert_allclose(p, slope(process.signal) / signal, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(q, p * noise - slope(process.noise_variance) / 2, rtol=1e-6)
    np.testing.assert_allclose(process.drift(jnp.asarray(t)), (p, q), rtol=1e-12)


@pytest.mark.parametrize("process", PATHS[:4])
def test_paths_are_hashable_static_and_traced_times_are_checked(process):
    assert hash(process) == hash(process)
    assert jax.tree.leaves(process) == []
    levels = jax.jit(lambda t: (process.signal(t), process.noise_variance(t)))
    found = levels(jnp.array([0.2, -1.0, 1.5]))
    late = np.isfinite(process.end)
    for values in found:
        assert list(np.isnan(values)) == [False, True, late]
    assert float(process.prior_variance(0.5)) == (1.0 if process == fsd.Flow() else
        pytest.approx(float(process.noise_variance(0.5))))  # fmt: skip
    if late:
        for call in (process.signal, process.host_variances):
            with pytest.raises(ValueError, match="t must be at most 1, where"):
                call(1.5)


@pytest.mark.parametrize("power", [-2, -1, 0, 1])
@pytest.mark.usefixtures("x64")
def test_quadrature_of_a_path_that_ends_is_exact(power):
    times, weights = fsd.Flow().quadrature()
    low, high = 1e-3, 1 - 1e-3
    # Losses have powers of the noise, risks the denominator.
    f = lambda t: t ** (2.0 * power) / ((1 - t) ** 2 * 3 + t**2)
    total = integrate.quad(f, low, high, epsabs=0, epsrel=1e-12, limit=500, points=[0.01, 0.1])[0]
    found = float(np.sum(np.asarray(weights) * f(np.asarray(times))))
    np.testing.assert_allclose(found, total / (high - low), rtol=1e-10)
    np.testing.assert_allclose(np.sum(weights), 1, rtol=1e-14)


def test_a_flat_schedule_is_the_constant_rate():
    flat = fsd.VP.scheduled((0.0, 1.0, 2.0), (3.0, 3.0, 3.0))
    t = jnp.linspace(0.1, 5, 7)
    np.testing.assert_allclose(
        flat.integrated_rate(t), fsd.VP.constant(3.0).integrated_rate(t), rtol=1e-6
    )


def test_a_process_is_hashable_and_static_under_jit():
    assert hash(fsd.VP.linear(0.1, 2.0)) == hash(fsd.VP.linear(0.1, 2.0))
    assert fsd.VP() == fsd.VP.constant(1.0)
    assert jax.tree.leaves(fsd.VP.linear(0.1, 2.0)) == []
    value = jax.jit(lambda p, t: p.signal(t))(fsd.VP.constant(2.0), 1.0)
    np.testing.assert_allclose(value, np.exp(-1.0), rtol=1e-6)


@pytest.mark.parametrize("power", [-2, -1, 0, 1])
@pytest.mark.parametrize(("delta", "T"), [(1e-3, 10.0), (0.1, 3.0)])
@pytest.mark.usefixtures("x64")
def test_quadrature_is_exact_for_powers_of_the_noise(power, delta, T):
    times, weights = fsd.VP().quadrature(delta, T)
    found = float(jnp.sum(weights * fsd.VP().noise_variance(times) ** power))
    total = integrate.quad(
        lambda u: (-np.expm1(-np.exp(u))) ** power * np.exp(u),
        np.log(delta), np.log(T), epsabs=0, epsrel=1e-12, limit=200,
    )[0]  # fmt: skip
    np.testing.assert_allclose(found, total / (T - delta), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_quadrature_integrates_a_loss_like_integrand():
    def f(t):
        m2, s2 = np.exp(-t), -np.expm1(-t)
        g = 2 * m2 / (2 * m2 + s2)
        return g * m2 / s2**2 + g**2 / s2

    times, weights = fsd.VP().quadrature()
    exact = integrate.quad(
        lambda u: f(np.exp(u)) * np.exp(u), np.log(1e-3), np.log(10), epsrel=1e-12, limit=200
    )[0]
    found = float(np.sum(np.asarray(weights) * f(np.asarray(times))))
    np.testing.assert_allclose(found, exact / (10 - 1e-3), rtol=1e-10)


@pytest.mark.parametrize("nodes", [1, 5, 64])
def test_quadrature_weights_sum_to_one_and_nodes_increase(nodes):
    times, weights = fsd.VP().quadrature(0.01, 5.0, nodes)
    assert times.shape == weights.shape == (nodes,)
    np.testing.assert_allclose(np.sum(np.asarray(weights, np.float64)), 1, rtol=1e-6)
    assert np.all(np.asarray(weights) > 0)
    assert np.all(np.diff(times) > 0)
    assert 0.01 < times[0] <= times[-1] < 5.0


def test_uniform_and_geometric_grids():
    uniform, geometric = fsd.uniform_grid(0.1, 2.0, 10), fsd.geometric_grid(0.1, 2.0, 10)
    assert uniform.shape == geometric.shape == (11,)
    for grid in (uniform, geometric):
        np.testing.assert_allclose(grid[jnp.array([0, -1])], [0.1, 2.0], rtol=1e-6)
    np.testing.assert_allclose(np.diff(uniform), 0.19, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(geometric[1:] / geometric[:-1]), 20**0.1, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_paper_grid_follows_its_rule_from_the_later_end():
    c, L = 0.2, 10.0
    grid = np.asarray(fsd.paper_grid(0.01, 3.0, rate=c, lipschitz=L))
    assert grid[0] == 0.01
    assert grid[-1] == 3.0
    steps, later = np.diff(grid), grid[1:]
    rule = c * np.minimum(np.maximum(later, 1 / L), 1)
    np.testing.assert_allclose(steps[1:], rule[1:], rtol=1e-9)
    assert 0 < steps[0] <= rule[0] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: fsd.VP.constant(0.0), "rates"),
        (lambda: fsd.VP.constant(np.inf), "rate must be a finite number"),
        (lambda: fsd.VP.constant(True), "rate must be a finite number"),
        (lambda: fsd.VP.linear("a", 1.0), "rate_min"),
        (lambda: fsd.VP.linear(0.1, [1.0]), "rate_max"),
        (lambda: fsd.VP.linear(0.1, 1.0, horizon=np.nan), "horizon"),
        (lambda: fsd.VP.linear(2.0, 1.0), "rates"),
        (lambda: fsd.VP.linear(1.0, 2.0, horizon=0.0), "knots"),
        (lambda: fsd.VP.scheduled((1.0, 2.0), (1.0, 1.0)), "knots"),
        (lambda: fsd.VP.scheduled((0.0, 2.0), (1.0,)), "knots and rates"),
        (lambda: fsd.VP.scheduled((), ()), "knots and rates"),
        (lambda: fsd.VP().quadrature(0.0, 1.0), "delta"),
        (lambda: fsd.VP().quadrature(2.0, 1.0), "delta"),
        (lambda: fsd.VP().quadrature(nodes=0), "nodes"),
        (lambda: fsd.Flow().quadrature(1e-3, 1.0), "T must lie below 1"),
        (lambda: fsd.Flow().quadrature(0.6), "delta and T"),
        (lambda: fsd.VE().host_time(-1.0), "level"),
        (lambda: fsd.GaussianPath(signal=1.0, noise_variance=abs), "signal must be a function"),
        (lambda: fsd.GaussianPath(signal=abs, noise_variance=abs, end=0), "end must be positive"),
        (
            lambda: fsd.GaussianPath(signal=lambda t: t[:1], noise_variance=abs).signal([1.0, 2.0]),
            "signal must return one number for each time",
        ),
        (
            lambda: fsd.GaussianPath(
                signal=lambda t: 1 + 0 * t, noise_variance=lambda t: t / (1 + t)
            ).host_time(2.0),
            "level must be reached",
        ),
        (lambda: fsd.VP().quadrature(nodes=True), "nodes"),
        (lambda: fsd.uniform_grid(0.1, np.inf, 3), "delta and T"),
        (lambda: fsd.uniform_grid(0.1, 1.0, 0), "steps"),
        (lambda: fsd.geometric_grid(-0.1, 1.0, 3), "delta and T"),
        (lambda: fsd.geometric_grid(0.1, 1.0, 2.5), "steps"),
        (lambda: fsd.paper_grid(0.1, 1.0, rate=1.0, lipschitz=1.0), "rate"),
        (lambda: fsd.paper_grid(0.1, 1.0, rate=0.5, lipschitz=0.0), "lipschitz"),
        (lambda: fsd.paper_grid(1e-9, 1e-3, rate=1e-12, lipschitz=1e3), "rate"),
    ],
)
def test_errors_name_the_argument(call, name):
    with pytest.raises(ValueError, match=name):
        call()
