import pytest

from fsd_jax import sweep


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("10", [10.0]),
        ("4,8,16", [4.0, 8.0, 16.0]),
        ("4:64:log2", [4.0, 8.0, 16.0, 32.0, 64.0]),
        ("4:100:log2", [4.0, 8.0, 16.0, 32.0, 64.0]),
        ("1e-3:1:log10", [1e-3, 1e-2, 0.1, 1.0]),
        ("1:9:lin5", [1.0, 3.0, 5.0, 7.0, 9.0]),
        ("1,1:2:lin2,0.5", [1.0, 2.0, 0.5]),
    ],
)
def test_specifications(text, values):
    assert sweep.parse_spec("t", text) == pytest.approx(values, rel=1e-12)


def test_whole_numbers_and_a_perfect_source():
    assert sweep.parse_spec("n_s", "100,1e4,inf", whole=True, infinite=True) == [100, 10_000, None]
    assert all(isinstance(n, int) for n in sweep.parse_spec("n_ta", "4:4096:log2", whole=True))


@pytest.mark.parametrize(
    "text", ["", "x", "4:8", "8:4:log2", "4:8:log1", "0:8:log2", "1:2:lin0", "1:2:3", "inf", "nan"]
)
def test_bad_specifications_name_the_option(text):
    with pytest.raises(ValueError, match="--t"):
        sweep.parse_spec("--t", text)


@pytest.mark.parametrize("text", ["2.5", "0", "-3"])
def test_bad_whole_numbers(text):
    with pytest.raises(ValueError, match="integers of at least 1"):
        sweep.parse_spec("--n-ta", text, whole=True)


def test_cells_are_in_grid_order_and_share_draws():
    plan = sweep.plan_errors(
        n_ta=[4, 8], n_s=[None, 100], d=[2, 3], t=[0.1, 1.0], latent_variance=[1.0, 2.0],
        method=["rank", "orthonormal"], metric=["subspace_error", "kl"],
    )  # fmt: skip
    assert len(plan.cells) == 2**7
    assert list(plan.cells[0]) == [
        "n_ta", "n_s", "d", "D", "t", "latent_variance", "tau", "method", "metric",
    ]  # fmt: skip
    assert plan.cells[1] == plan.cells[0] | {"metric": "kl"}
    assert plan.cells[64]["n_ta"] == 8
    # Time, variance, method and metric share draws; any sample sizes share a compilation.
    assert len(plan.groups) == 8
    assert plan.compilations == 2
    assert sorted(place for group in plan.groups for place in group.cells) == list(range(128))


def test_without_noise_the_ambient_dimension_does_not_matter():
    plan = sweep.plan_errors(n_ta=[4, 5], d=[2], t=[1.0], D=[16, 32], tau=[0.0, 0.3])
    assert [(c["n_ta"], c["D"], c["tau"]) for c in plan.cells] == [
        (4, None, 0.0), (4, 16, 0.3), (4, 32, 0.3),
        (5, None, 0.0), (5, 16, 0.3), (5, 32, 0.3),
    ]  # fmt: skip
    # Sizes up to the next power of two share a compilation.
    assert plan.compilations == 1 + 2 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_ta": []}, "n_ta"),
        ({"n_ta": [0]}, "n_ta"),
        ({"n_ta": [4, 4]}, "different values"),
        ({"d": [1.5]}, "d must"),
        ({"t": [-1.0]}, "t must"),
        ({"tau": [0.1]}, "tau > 0 needs"),
        ({"tau": [0.1], "D": [2]}, "tau > 0 needs"),
        ({"method": "rank"}, "sequence"),
        ({"method": ["pca"]}, "method"),
        ({"metric": ["fid"]}, "metric"),
        ({"replicates": 0}, "replicates"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_plans_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        sweep.plan_errors(**({"n_ta": [4], "d": [2], "t": [1.0]} | change))
