"""Wrong kinds of arguments to the minimisers: a sentence that names them, or a status."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status, landscape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8)).astype(np.float32)
MOMENT = fsd.SecondMoment.from_samples(X)
BATCH = jax.vmap(fsd.SecondMoment.from_samples)(np.stack([X, X]))
AT = dict(latent_variance=1.0, time=0.5)
KEY = jax.random.key(0)
Q = np.linalg.qr(RNG.normal(size=(8, 3)))[0].astype(np.float32)


def _ridge(moment=MOMENT, basis=Q, **change):
    return fsd.ridge_minimizer(moment, basis, **({"strength": 1.0, **AT} | change))


CALLS = {
    "rank": lambda m=MOMENT, **k: fsd.rank_minimizer(m, **({"latent_dim": 3, **AT} | k)),
    "orthonormal": lambda m=MOMENT, **k: fsd.orthonormal_minimizer(m, **({"latent_dim": 3} | k)),
    "paper": lambda m=MOMENT, **k: fsd.paper_formula(m, **(AT | k)),
    "loss": lambda m=MOMENT, **k: fsd.expected_loss(Q, m, **(AT | k)),
    "ridge": _ridge,
    "train": lambda m=MOMENT, **k: fsd.train(KEY, m, **({"latent_dim": 3, "steps": 2, **AT} | k)),
    "critical": lambda m=MOMENT, **k: landscape.critical_decoder(m, (0, 1), **(AT | k)),
    "spectrum": lambda m=MOMENT, **k: landscape.predicted_spectrum(m, (0, 1), **(AT | k)),
    "measure": lambda m=MOMENT, **k: landscape.measure(Q, m, **(AT | k)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_moment_is_one_second_moment(name):
    with pytest.raises(ValueError, match=r"moment must be a SecondMoment, .*from_samples"):
        CALLS[name](X)
    with pytest.raises(ValueError, match=r"moment is a batch of shape \(2,\)"):
        CALLS[name](BATCH)


@pytest.mark.parametrize("name", [n for n in CALLS if n != "orthonormal"])
def test_processes_and_subnormal_numbers_are_refused(name):
    with pytest.raises(ValueError, match="process must be a VP"):
        CALLS[name](process="vp")
    with pytest.raises(ValueError, match="time must be positive"):
        CALLS[name](time=1e-42)
    with pytest.raises(ValueError, match="latent_variance must be positive"):
        CALLS[name](latent_variance=1e-42)
    if name != "paper":
        with pytest.raises(ValueError, match="weights must be"):
            CALLS[name](time=None, times=[0.5], weights=[1e-42])


@pytest.mark.parametrize("name", ["rank", "orthonormal", "ridge"])
def test_a_word_is_no_flag(name):
    with pytest.raises(ValueError, match="throw must be True or False"):
        CALLS[name](throw="no")


SKEWED = Q @ np.diag([1.0, 2.0, 1.0]).astype(np.float32)
OTHER = [
    (lambda: _ridge(basis=SKEWED), "source_basis must have orthonormal columns"),
    (lambda: _ridge(basis=np.full((8, 3), np.nan, np.float32)), "source_basis must have ortho"),
    (lambda: _ridge(basis=Q[:, :0]), "source_basis has no columns"),
    (lambda: _ridge(basis=Q[:5]), "source_basis has D = 5"),
    (lambda: _ridge(fsd.SecondMoment.from_samples(X, rank=2)), "holds 2 of more directions"),
    (
        lambda: fsd.paper_formula(fsd.SecondMoment.from_samples(X, rank=2), **AT),
        "holds 2 of more directions",
    ),
    (lambda: fsd.pooled_moment(X, MOMENT, source_share=0.5), "target must be a SecondMoment"),
    (lambda: fsd.pooled_moment(MOMENT, X, source_share=0.5), "source must be a SecondMoment"),
    (lambda: fsd.pooled_moment(MOMENT, MOMENT, source_share=-1.0), "source_share must be"),
    (lambda: fsd.pooled_moment(MOMENT, MOMENT, source_share=2), "source_share must be at most 1"),
    (lambda: fsd.train(0, MOMENT, latent_dim=3, **AT), "key must be a JAX random key"),
    (lambda: CALLS["train"](steps=2.5), "steps must be an integer"),
    (lambda: CALLS["train"](learning_rate=1e-42, optimizer="gd"), "learning_rate must be"),
    (lambda: CALLS["train"](initial=np.full((8, 3), np.nan, np.float32)), "initial has NaN"),
    (
        lambda: CALLS["train"](samples=np.full((6, 8), np.nan, np.float32), optimizer="adam"),
        "samples has NaN",
    ),
    (lambda: landscape.critical_decoder(MOMENT, 3, **AT), "chosen must be a sequence"),
    (lambda: landscape.measure(Q[:5], MOMENT, **AT), "decoder has D = 5"),
    (
        lambda: landscape.measure(SKEWED, MOMENT, constraint="orthonormal", **AT),
        "decoder must have orthonormal columns",
    ),
    (
        lambda: jax.jit(lambda V: landscape.measure(V, MOMENT, **AT).eigenvalues)(Q),
        "outside jit",
    ),
    (lambda: fsd.monte_carlo_loss(0, lambda x, t: x, X, time=0.5), "key must be"),
    (lambda: fsd.monte_carlo_loss(KEY, "score", X, time=0.5), "score must be a function"),
    (lambda: fsd.monte_carlo_loss(KEY, lambda x, t: x, X, time=0.5, process=1), "process must be"),
]


@pytest.mark.parametrize(("call", "words"), OTHER)
def test_a_wrong_kind_is_a_value_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "score",
    [lambda x, t: x[:1], lambda x, t: x[:, :1], lambda x, t: 0.0, lambda x, t: (x, x)],
    ids=["one row", "one column", "number", "pair"],
)
def test_a_score_of_another_shape_is_not_broadcast(score):
    """Before: 33.8 without a word."""
    with pytest.raises(ValueError, match=r"score must return an array of x's shape \(6, 8\)"):
        fsd.monte_carlo_loss(KEY, score, X, time=0.5, draws=2)


def test_a_traced_basis_that_is_not_orthonormal_is_a_status():
    found = jax.jit(lambda basis: _ridge(basis=basis))(SKEWED)
    assert Status.BAD_VALUE in Status(int(found.status))
    assert np.all(np.isnan(found.gains))
    assert int(jax.jit(lambda basis: _ridge(basis=basis))(Q).status) == Status.OK


def test_traced_numbers_out_of_range_are_nan_or_a_status():
    def loss(t):
        return fsd.expected_loss(Q, MOMENT, latent_variance=1.0, time=t)

    assert np.isnan(jax.jit(loss)(jnp.float32(-1.0)))
    assert np.isfinite(jax.jit(loss)(jnp.float32(0.5)))

    def sampled(t):
        return fsd.monte_carlo_loss(KEY, lambda x, t: -x, X, time=t, draws=2)[0]

    assert np.isnan(jax.jit(sampled)(jnp.float32(0.0)))

    def trained(t):
        return CALLS["train"](time=t).status

    assert Status.BAD_VALUE in Status(int(jax.jit(trained)(jnp.float32(-1.0))))
