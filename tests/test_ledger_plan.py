"""Sweeps over the ledger: rows are what the ledger of each replicate says."""

import dataclasses

import jax
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import ledger, sweep
from fsd_jax.sweep._run import stream

TIMES = np.geomspace(1e-3, 10.0, 9)
SIZES = dict(n_ta=[6], n_s=[40], d=[2], D=[7], steps=[8])
PLAN = ledger.plan_ledger(**SIZES, tau=[0.3], metric=["score_error", "w2"], replicates=5, block=4)


@jax.jit
def _by_hand(key):
    world, source, target = jax.random.split(key, 3)
    problem = fsd.LinearProblem.random(
        world, ambient_dim=7, latent_dim=2, latent_variance=1.0, residual_variance=0.09
    )
    pretrained = fsd.pretrain(problem.sample_source(source, 40), latent_dim=2)
    model = fsd.finetune(pretrained, problem.sample_target(target, 6))
    return ledger.account(model.linear, problem, times=TIMES)


def test_rows_are_means_of_ledgers(tmp_path):
    rows = list(sweep.read_results(sweep.run(PLAN, tmp_path / "out").parent))
    assert [row["status"] for row in rows] == ["ok"] * 18
    key = stream(0, PLAN.groups[0].identity)
    blocks = [jax.random.split(jax.random.fold_in(key, number), 4) for number in (0, 1)]
    found = [_by_hand(k) for k in [*blocks[0], blocks[1][0]]]
    # W2^2 is a sum of squares of differences of standard deviations, each of which is known to some
    # eps of itself: lambda in d directions and tau in the others, of the model and of the truth.
    root = 16 * np.finfo(np.float32).eps * np.sqrt(2 * (2 * 1.0 + 5 * 0.09))
    floor = {"score_error": 2e-7, "w2": root**2}
    for row in rows:
        at = ledger.METRICS.index(row["metric"])
        if row["ingredient"] == "total":
            values = [float(each.total[at]) for each in found]
        else:
            place = ledger.INGREDIENTS.index(row["ingredient"])
            values = [float(each.alone[at, place]) for each in found]
        mean = np.mean(values)
        size = abs(np.asarray(values)).max()
        near = 2 * root * np.sqrt(size) if row["metric"] == "w2" else 0.0
        assert abs(row["mean"] - mean) <= max(2e-4 * size, near + floor[row["metric"]])


def test_cells_and_compilations():
    plan = ledger.plan_ledger(**(SIZES | {"n_ta": [6, 9]}), tau=[0.1, 0.3], ingredient=["total"])
    assert (len(plan.cells), plan.compilations) == (4, 2)
    assert plan.cells[1] | {"n_ta": 9} == plan.cells[3]
    # Noise levels share their draws, sizes do not.
    assert len({group.identity for group in plan.groups}) == 2
    assert dataclasses.replace(plan, seed=1).groups is plan.groups


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_s": [1]}, "n_s must be at least d = 2, got 1"),
        ({"D": []}, "D must be a sequence of different values"),
        ({"tau": [-0.1]}, "tau"),
        ({"metric": ["loss"]}, "metric must be"),
        ({"ingredient": ["luck"]}, "ingredient must be"),
        ({"sampler": "ddim"}, "sampler must be"),
    ],
)
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        ledger.plan_ledger(**(SIZES | bad))
