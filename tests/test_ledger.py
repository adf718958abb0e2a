"""The ledger against the same substitutions made by hand, in the full space."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import ledger, sampler

D, d, N_TA, N_S = 12, 3, 8, 200
TIMES = np.geomspace(1e-2, 6.0, 41)
INDEX = {name: i for i, name in enumerate(ledger.INGREDIENTS)}


def _problem():
    # Variances out of order, so that pairing by rank has something to do.
    return fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=D, latent_dim=d, latent_variance=[1.0, 3.0, 0.4],
        residual_variance=0.1, mean_scale=0.5,
    )  # fmt: skip


def _fits(key, problem):
    """A rank-d model fitted at one time, and the same data fitted over all times."""
    source, target = jax.random.split(key)
    seen = fsd.SecondMoment.from_samples(
        problem.sample_source(source, N_S), centre=True, throw=False, route="svd"
    )
    moment = fsd.SecondMoment.from_samples(
        problem.sample_target(target, N_TA), centre=True, throw=False, route="svd", rank=d + 1
    )
    variance, residual = seen.values[:d], jnp.sum(seen.values[d:]) / (D - d)
    times, weights = fsd.VP().quadrature(1e-2, 6.0, 16)

    def score(**when):
        found = fsd.rank_minimizer(
            moment, latent_variance=variance, latent_dim=d, throw=False, **when
        )
        return fsd.LinearScore.from_minimizer(
            found, latent_variance=variance, residual_variance=residual, mean=moment.mean
        )

    return score(time=0.8), score(times=times, weights=weights)


@functools.cache
def _world():
    """Four models in one batch, the last one perfect, and their ledgers; call it in x64 mode."""
    problem = _problem()
    one = jax.jit(lambda key: _fits(key, problem))
    pairs = [one(key) for key in jax.random.split(jax.random.key(1), 3)]
    pairs.append((_true(problem), _true(problem)))
    models, refits = jax.tree.map(lambda *members: jnp.stack(members), *pairs)
    found = jax.vmap(lambda score, refit: ledger.account(score, problem, times=TIMES, refit=refit))(
        models, refits
    )
    return problem, models, refits, found


def _member(i):
    problem, *batches = _world()
    return problem, *jax.tree.map(lambda a: a[i], batches)


def _true(problem):
    """The truth as a score, columns in descending order of variance."""
    law = problem.target_law
    order = np.argsort(-np.asarray(law.variance))
    return fsd.LinearScore(
        basis=law.basis[:, order], mixing=jnp.eye(d), latent_variance=law.variance[order],
        residual_variance=law.residual_variance, mean=law.mean, process=fsd.VP(),
    )  # fmt: skip


def _by_hand(score, problem, start=None, law=None, at_delta=False):
    """The three metrics of a sampler, from public functions on the full space."""
    clean = problem.target_law
    law = sampler.generated_law(score, times=TIMES, initial=start) if law is None else law
    times, weights = fsd.VP().quadrature(TIMES[0], TIMES[-1])
    return [
        float(fsd.score_error(score, problem, times=times, weights=weights)),
        float(fsd.gaussian_kl(clean.diffuse(TIMES[0]), law)),
        float(fsd.bures_w2(clean.diffuse(TIMES[0]) if at_delta else clean, law)),
    ]


@pytest.mark.result("The ledger")
@pytest.mark.usefixtures("x64")
def test_every_substitution_by_hand():
    problem, score, refit, found = _member(1)
    true, clean = _true(problem), problem.target_law
    late, early = clean.diffuse(TIMES[-1]), TIMES[0]
    total = _by_hand(score, problem)
    np.testing.assert_allclose(found.total, total, rtol=1e-8)
    fields = {
        "decoder": ("basis", "mixing"), "latent_variance": ("latent_variance",),
        "residual_variance": ("residual_variance",), "mean": ("mean",),
    }  # fmt: skip
    for name, parts in fields.items():
        better = dataclasses.replace(score, **{part: getattr(true, part) for part in parts})
        expected = np.subtract(total, _by_hand(better, problem))
        np.testing.assert_allclose(found.removed[:, INDEX[name]], expected, atol=1e-8)
        given = refit if name == "decoder" else score
        worse = dataclasses.replace(true, **{part: getattr(given, part) for part in parts})
        law = sampler.continuous_law(worse, delta=early, T=TIMES[-1], initial=late)
        expected = _by_hand(worse, problem, law=law, at_delta=True)
        np.testing.assert_allclose(found.alone[:, INDEX[name]], expected, atol=1e-8)
    expected = {
        ("alone", "discretisation"): _by_hand(true, problem, start=late, at_delta=True),
        ("alone", "finite_time"): _by_hand(
            true, problem, law=sampler.continuous_law(true, delta=early, T=TIMES[-1]), at_delta=True
        ),
        ("alone", "early_stopping"): _by_hand(true, problem, law=clean.diffuse(early)),
        ("removed", "fit_time"): np.subtract(total, _by_hand(refit, problem)),
        ("removed", "finite_time"): np.subtract(total, _by_hand(score, problem, start=late)),
        ("removed", "early_stopping"): np.subtract(total, _by_hand(score, problem, at_delta=True)),
        ("removed", "discretisation"): np.subtract(
            total,
            _by_hand(
                score, problem, law=sampler.continuous_law(score, delta=early, T=TIMES[-1])
            ),
        ),
    }  # fmt: skip
    for (column, name), values in expected.items():
        np.testing.assert_allclose(getattr(found, column)[:, INDEX[name]], values, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_the_population_does_not_care_when_it_was_fitted():
    found = _world()[-1]
    np.testing.assert_allclose(found.alone[:, :, INDEX["fit_time"]], 0, atol=1e-12)


@pytest.mark.result("The ledger")
@pytest.mark.usefixtures("x64")
def test_columns_sum_to_the_total():
    found = _member(0)[-1]
    for m, metric in enumerate(ledger.METRICS):
        rows = found.rows(metric)
        assert [row["ingredient"] for row in rows] == [*ledger.INGREDIENTS, "interaction"]
        for column in ("alone", "removed"):
            total = sum(row[column] for row in rows)
            assert total == pytest.approx(float(found.total[m]), rel=1e-6)
            assert all(row[f"{column}_stderr"] is None for row in rows)
        assert all(
            row["interaction"] == pytest.approx(row["removed"] - row["alone"]) for row in rows
        )
    assert len(found.rows()) == 3 * 9


@pytest.mark.usefixtures("x64")
def test_a_perfect_model_owes_only_to_the_sampler():
    found = _member(3)[-1]
    sampling = [INDEX[name] for name in ("discretisation", "early_stopping", "finite_time")]
    model = [i for i in range(len(INDEX)) if i not in sampling]
    np.testing.assert_allclose(found.alone[:, model], 0, atol=1e-12)
    np.testing.assert_allclose(found.removed[:, model], 0, atol=1e-12)
    assert np.all(np.asarray(found.alone)[2, sampling] > 1e-6)
    assert float(found.total[0]) < 1e-12
    assert found.advice("kl").endswith("Next: steps.")


@pytest.mark.usefixtures("x64")
def test_replicates_have_error_bars():
    found = jax.tree.map(lambda a: a[:3], _world()[-1])
    row = found.rows("w2")[0]
    costs = np.asarray(found.alone)[:, 2, INDEX["decoder"]]
    assert row["alone"] == pytest.approx(costs.mean())
    assert row["alone_stderr"] == pytest.approx(costs.std(ddof=1) / 3**0.5)
    assert row["total"] == pytest.approx(np.mean(np.asarray(found.total)[:, 2]))
    assert repr(found).startswith("Ledger(batch=(3,)")
    assert found.advice("w2").endswith("Next: target samples.")


@pytest.mark.slow
def test_a_narrower_noise_free_model_with_denoising():
    """Two directions of three, in float32; the truth has no density at t = 0."""
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=D, latent_dim=d, latent_variance=1.0
    )
    source = fsd.pretrain(problem.sample_source(jax.random.key(1), 50), latent_dim=2, mean=False)
    model = fsd.finetune(source, problem.sample_target(jax.random.key(2), 10), mean=None)
    found = ledger.account(model.linear, problem, times=TIMES, method="heun_ode", denoise=True)
    assert int(found.missing) == 1
    for values in (found.total, found.alone, found.removed):
        assert np.all(np.isfinite(np.asarray(values)))
    law = sampler.generated_law(model.linear, times=TIMES, method="heun_ode", denoise=True)
    expected = float(fsd.bures_w2(problem.target_law, law))
    assert float(found.total[2]) == pytest.approx(expected, rel=1e-3)
    # The direction left out is a variance of one, whose root is what W2 sees.
    assert float(found.alone[2, INDEX["decoder"]]) > 0.7
    assert "leaves out 1 of the directions" in found.advice()
    assert "fit_time" not in [row["ingredient"] for row in found.rows("kl")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "exact"}, "method must be one of"),
        ({"times": [1.0]}, "at least two times"),
        ({"score": np.tanh}, "score must be a LinearScore"),
        ({"refit": "none"}, "refit must be a LinearScore"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_refusals(change, message):
    problem, score, _, found = _member(0)
    arguments = {"score": score, "times": TIMES} | change
    with pytest.raises(ValueError, match=message):
        ledger.account(arguments.pop("score"), problem, **arguments)
    with pytest.raises(ValueError, match="metric must be one of"):
        found.rows("fid")


@pytest.mark.usefixtures("x64")
def test_a_mixing_that_is_not_diagonal_is_refused():
    problem, score, _, _ = _member(0)
    mixed = dataclasses.replace(score, mixing=jnp.ones((d, d)))
    with pytest.raises(ValueError, match="diagonal mixing"):
        ledger.account(mixed, problem, times=TIMES)
