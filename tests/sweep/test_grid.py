"""Plans: cells in order, values in their final form, and specifications that end."""

import dataclasses
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest

import fsd_jax as fsd
from fsd_jax import latent_net, ledger, simulate, sweep
from fsd_jax.latent_net._descent import Recipe
from fsd_jax.sweep._plan import seed_of
from fsd_jax.sweep._results import config_hash, configuration, identity
from fsd_jax.sweep._run import stream


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
    plan = simulate.plan_errors(
        n_ta=[4, 8],
        n_s=[None, 100],
        d=[2, 3],
        t=[0.1, 1.0],
        latent_variance=[1.0, 2.0],
        method=["rank", "orthonormal"],
        metric=["subspace_error", "kl"],
    )
    assert len(plan.cells) == 2**7
    assert list(plan.cells[0]) == [
        "n_ta",
        "n_s",
        "d",
        "D",
        "t",
        "latent_variance",
        "tau",
        "method",
        "metric",
    ]
    assert plan.cells[1] == plan.cells[0] | {"metric": "kl"}
    assert plan.cells[64]["n_ta"] == 8
    # Time, variance, method and metric share draws; any sample sizes share a compilation.
    assert len(plan.groups) == 8
    assert plan.compilations == 2
    assert sorted(place for group in plan.groups for place in group.cells) == list(range(128))


def test_without_noise_the_ambient_dimension_does_not_matter():
    plan = simulate.plan_errors(n_ta=[4, 5], d=[2], t=[1.0], D=[16, 32], tau=[0.0, 0.3])
    assert [(c["n_ta"], c["D"], c["tau"]) for c in plan.cells] == [
        (4, None, 0.0),
        (4, 16, 0.3),
        (4, 32, 0.3),
        (5, None, 0.0),
        (5, 16, 0.3),
        (5, 32, 0.3),
    ]
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
        simulate.plan_errors(**({"n_ta": [4], "d": [2], "t": [1.0]} | change))


# Values in their final form


SIZES = dict(n_ta=[4, 8], n_s=[100], d=[2], D=[6])
PLANS = {
    "errors": (
        simulate.plan_errors,
        SIZES | dict(t=[0.5, 1.0], latent_variance=[2.0], tau=[0.25], replicates=10, seed=3),
    ),
    "ledger": (
        ledger.plan_ledger,
        SIZES | dict(tau=[0.5], steps=[8], delta=0.0078125, T=8.0, replicates=10, seed=3),
    ),
    "section4": (
        latent_net.plan_section4,
        SIZES
        | dict(
            D=6,
            widths=[8, 8],
            replicates=4,
            seed=3,
            block=2,
            method=["fewshot"],
            pretraining=Recipe(steps=40, learning_rate=0.0078125),
        ),
    ),
}


def _as_numpy(value, array):
    """The same values as NumPy's arrays and scalars."""
    if isinstance(value, Recipe):
        fields = dataclasses.asdict(value)
        # In float32 some would be others.
        kinds = {int: np.int32, float: np.float64}
        return Recipe(**{n: kinds.get(type(v), lambda x: x)(v) for n, v in fields.items()})
    if isinstance(value, list):
        return array(value) if array else [_as_numpy(each, array) for each in value]
    return {int: np.int64, float: np.float32, str: np.str_}.get(type(value), lambda x: x)(value)


@pytest.mark.parametrize("array", [None, np.array, jnp.array, pandas.Series, tuple])
@pytest.mark.parametrize("kind", PLANS)
def test_numpys_numbers_make_the_same_plan(kind, array):
    """All values are exact in float32, so that nothing but their kind differs."""
    make, given = PLANS[kind]
    words = {name for name in given if name in ("method", "metric")}
    if array is jnp.array:
        given = {name: value for name, value in given.items() if name not in words}
    expected = make(**given)
    found = make(**{name: _as_numpy(value, array) for name, value in given.items()})
    assert config_hash(found) == config_hash(expected)
    as_json = lambda plan: json.dumps([configuration(plan), list(plan.cells)])
    assert as_json(found) == as_json(expected)
    assert [g.identity for g in found.groups] == [g.identity for g in expected.groups]
    assert [hash(g.program) for g in found.groups] == [hash(g.program) for g in expected.groups]


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("errors", "9e1c5ac5fb93"),
        ("ledger", "69f4b3535b3c"),
        ("section4", "bc3e0f2b283d"),
    ],
)
def test_stored_sweeps_can_be_resumed(kind, digest):
    """What a folder is compared by; the numbers were written when each planner had its own code."""
    make, given = PLANS[kind]
    # A grid of one step needs no logarithm, whose last digit may be the machine's.
    found = identity(make(**given | ({"steps": [1]} if kind == "ledger" else {})))
    text = json.dumps([found["configuration"], found["work"]], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == digest


def test_earlier_names_of_planners_work():
    assert fsd.sweep.plan_errors is simulate.plan_errors
    assert fsd.sweep.plan_ledger is ledger.plan_ledger
    with pytest.raises(AttributeError, match="no attribute 'plan_nothing'"):
        _ = fsd.sweep.plan_nothing


def test_float32_axes_keep_the_value_that_was_asked_for():
    plan = simulate.plan_errors(n_ta=[4], d=[2], t=np.array([0.1, 0.2], np.float32))
    assert plan.axes["t"] == [float(np.float32(0.1)), float(np.float32(0.2))]
    assert plan.groups[0].arguments[2].tolist() == plan.axes["t"]


def test_an_integer_time_and_noise_of_zero_are_numbers_like_any():
    whole = simulate.plan_errors(n_ta=[4], d=[2], t=[1], latent_variance=[2], tau=[0])
    real = simulate.plan_errors(n_ta=[4], d=[2], t=[1.0], latent_variance=[2.0], tau=[0.0])
    assert config_hash(whole) == config_hash(real)
    assert whole.groups[0].identity == real.groups[0].identity


BAD_VALUES = {
    "2**32": ({"seed": 2**32}, "seed must be at most 4294967295, got 4294967296"),
    "2**40": ({"seed": 2**40}, "seed must be at most"),
    "1.5": ({"seed": 1.5}, "seed must be an integer, got 1.5"),
    "True": ({"seed": True}, "seed must be an integer"),
    "None": ({"seed": None}, "seed must be an integer"),
    "masked": ({"n_ta": np.ma.array([4, 5], mask=[0, 1])}, "n_ta must be a sequence"),
    "two axes": ({"n_ta": np.array([[4]])}, "n_ta must be a sequence"),
    "a number": ({"n_ta": 4}, "n_ta must be a sequence"),
    "a set": ({"n_ta": {4}}, "n_ta must be a sequence"),
    "a generator": ({"n_ta": (n for n in (4, 5))}, "n_ta must be a sequence"),
    "the same": ({"n_ta": [4, np.int32(4)]}, "n_ta must be a sequence of different values"),
    "float": ({"n_ta": np.array([4.0])}, "n_ta must be an integer"),
    "NaN": ({"tau": [np.nan]}, "tau must be"),
    "replicates": ({"replicates": np.float64(3.0)}, "replicates must be an integer"),
}


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values_are_named_at_planning(kind, name):
    change, message = BAD_VALUES[name]
    make, given = PLANS[kind]
    if not set(change) <= set(given):
        pytest.skip("no such axis")
    with pytest.raises(ValueError, match=message):
        make(**(given | change))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("errors", {"n_ta": [10**39]}, "n_ta times d must be at most"),
        ("errors", {"n_ta": [2 * 10**38]}, r"n_ta times d must be at most 4.3e\+37"),
        ("errors", {"n_s": [10**400]}, "n_s times d must be at most"),
        ("errors", {"dtype": np.float16}, "dtype must be float32 or float64"),
        ("errors", {"dtype": int}, "dtype must be float32 or float64"),
        ("errors", {"dtype": "word"}, "dtype must be float32 or float64"),
        ("errors", {"t": [1e-40]}, "t must be positive and finite in float32"),
        ("errors", {"latent_variance": [1e39]}, "latent_variance must be"),
        ("errors", {"tau": [1e30]}, r"tau\*\*2 must be"),
        ("errors", {"n_ta": range(1, 20_000), "n_s": range(1, 20_000)}, "the most; take fewer"),
        ("ledger", {"n_ta": [10**39]}, "n_ta must be at most 2147483647"),
        ("ledger", {"latent_variance": [1e-40]}, "latent_variance must be"),
        ("ledger", {"delta": "1"}, "delta must be"),
        ("section4", {"n_ta": [2**31]}, "n_ta must be at most 2147483647"),
        ("section4", {"pretraining": Recipe(learning_rate=np.nan)}, "learning_rate must be"),
        ("section4", {"widths": [8.5]}, "widths must"),
    ],
)
def test_values_are_checked_in_the_form_that_is_used(kind, change, message):
    make, given = PLANS[kind]
    with pytest.raises(ValueError, match=message):
        make(**(given | change))


def test_seeds_up_to_the_last_draw_differently():
    draws = {
        np.asarray(jax.random.key_data(stream(seed_of(seed), "x"))).tobytes()
        for seed in (0, 1, 2**31, 2**32 - 1, np.int64(5))
    }
    assert len(draws) == 5


@dataclasses.dataclass(frozen=True)
class _Zeros:
    rows: int = 1
    block: int = 4

    def __call__(self, key):
        return jnp.zeros((self.rows, self.block))


def _points(plan):
    return [(g.identity, [tuple(plan.cells[i].values()) for i in g.cells]) for g in plan.groups]


def test_axes_are_split_into_groups_and_rows():
    seen = []

    def make(**point):
        seen.append(point)
        return _Zeros(), [1.5, np.int32(2)]

    axes = {"row": np.array([1, 2]), "n": (3, 4), "side": ["l", "r"]}
    plan = sweep.plan(axes, make, rows=["row", "side"], settings={"kind": "x"}, seed=np.int64(7))
    assert seen == [{"n": 3}, {"n": 4}]
    rows = lambda n: [(1, n, "l"), (1, n, "r"), (2, n, "l"), (2, n, "r")]
    assert _points(plan) == [('{"n": 3}', rows(3)), ('{"n": 4}', rows(4))]
    assert [a.dtype for a in plan.groups[0].arguments] == [np.float64, np.int32]
    asked = {"row": [1, 2], "n": [3, 4], "side": ["l", "r"], "kind": "x"}
    assert configuration(plan) == asked | {"replicates": 1000, "seed": 7, "dtype": "float32"}


def test_cells_can_be_changed_and_left_out():
    cell = lambda c: None if c["m"] > c["n"] else c | {"m": c["m"] % 2, "sum": c["m"] + c["n"]}
    plan = sweep.plan({"n": [1, 2, 3], "m": [1, 2]}, lambda n, m: (_Zeros(), ()), cell=cell)
    assert _points(plan) == [
        ('{"n": 1, "m": 1}', [(1, 1, 2)]),
        ('{"n": 2, "m": 1}', [(2, 1, 3)]),
        ('{"n": 2, "m": 0}', [(2, 0, 4)]),
        ('{"n": 3, "m": 1}', [(3, 1, 4)]),
        ('{"n": 3, "m": 0}', [(3, 0, 5)]),
    ]


@pytest.mark.parametrize(
    ("axes", "change", "message"),
    [
        ([1, 2], {}, "axes must be"),
        ({}, {}, "at least one axis"),
        ({"n": [1, 1]}, {}, "different values"),
        ({"n": [[1], [2]]}, {}, "numbers or words"),
        ({"n": [np.nan]}, {}, "n must be"),
        ({"n": [1]}, {"rows": ["m"]}, "rows must be one of"),
        ({"n": range(9999), "m": range(9999)}, {}, "the most; take fewer values of n, m"),
        ({"n": [1]}, {"seed": -1}, "seed must"),
        ({"n": [1]}, {"replicates": 0}, "replicates must"),
    ],
)
def test_bad_grids_are_named(axes, change, message):
    with pytest.raises(ValueError, match=message):
        sweep.plan(axes, lambda **_: (_Zeros(), ()), **change)


def _own(**change):
    group = sweep.Group(identity="a", cells=(0,), program=_Zeros(), arguments=())
    given = dict(
        axes={"n": [1]}, cells=[{"n": 1}], groups=[group], seed=0, replicates=4, dtype="float32"
    )
    return sweep.Plan(**(given | change))


GROUP = _own().groups[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1.5}, "seed must be an integer"),
        ({"seed": 2**32}, "seed must be at most"),
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"cells": [{"n": np.nan}]}, r"cells\['n'\] must be a word, a finite number"),
        ({"cells": [{"n": object()}]}, r"cells\['n'\] must be"),
        ({"cells": [{"mean": 1}]}, "must not have a column 'mean'"),
        ({"cells": [{"q50": 1}]}, "must not have a column 'q50'"),
        ({"cells": [3]}, "cells must map names to values"),
        ({"cells": [{1: 2}]}, "cells must be"),
        ({"axes": {"seed": [1]}}, "axes must not be called 'seed'"),
        ({"settings": {"dtype": 1}}, "settings must not be called 'dtype'"),
        ({"settings": {"n": 1}}, r"settings must not be called as an axis is, got \['n'\]"),
        ({"axes": {"n": [np.inf]}}, r"axes\['n'\]\[0\] must be"),
        ({"cells": [{"n": 1}, {"n": 2}]}, "each of the 2 cells once"),
        ({"groups": [GROUP, GROUP]}, "each of the 1 cells once"),
        ({"cells": [], "groups": []}, "there must be one"),
        ({"groups": [_Zeros()]}, r"groups\[0\]"),
        ({"groups": [dataclasses.replace(GROUP, program=_Zeros(block=0))]}, "block must be"),
    ],
)
def test_a_plan_of_ones_own_is_checked_before_any_work(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        sweep.run(_own(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"batch_size": 1.5}, {"devices": 99}, {"resume": "no"}, {"progress": 3}],
)
def test_bad_options_are_named(options, tmp_path):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be"):
        sweep.run(_own(), tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"^plan must be"):
        sweep.run([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Specifications that cannot end, or end elsewhere


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100:inf:log10", "the ends of a range are finite"),
        ("-inf:5:lin3", "the ends of a range are finite"),
        ("nan:5:lin3", "the ends of a range are finite"),
        ("1:2:lin999999999", "linN needs N from 1 to 100000"),
        (f"1:2:log{'9' * 5000}", "takes ranges like"),
        ("-inf", "must be finite, got -inf"),
        ("1e999:2:lin2", "takes a number"),
        ("1e999", "takes a number"),
        (",".join(["1:2:lin99999"] * 2), "takes at most 100000 values"),
        ("9" * 5000, "takes a number"),
    ],
)
def test_a_specification_without_end_is_refused(text, message):
    with pytest.raises(ValueError, match=f"--n-s:? {message}"):
        sweep.parse_spec("--n-s", text, infinite=True, whole="e" not in text)


def test_ranges_up_to_the_largest_number_end():
    values = sweep.parse_spec("t", "1:1.7976931348623157e308:log2")
    assert (len(values), values[-1]) == (1024, 2.0**1023)
    values = sweep.parse_spec("t", "-1e308:1e308:lin3")
    assert values == [-1e308, 0.0, 1e308]


def test_whole_numbers_keep_their_digits():
    assert sweep.parse_spec("n_s", "9007199254740993,inf", whole=True, infinite=True) == [
        9007199254740993,
        None,
    ]
    with pytest.raises(ValueError, match="integers of at least 1, got -3"):
        sweep.parse_spec("n_s", "-3", whole=True, infinite=True)


@pytest.mark.parametrize("text", [None, 4, 1.5, ["4"], b"4", np.arange(3), np, {}])
def test_a_specification_is_text(text):
    with pytest.raises(ValueError, match="n_ta must be a str"):
        sweep.parse_spec("n_ta", text)
    for flag in ("whole", "infinite"):
        with pytest.raises(ValueError, match=f"{flag} must be True or False"):
            sweep.parse_spec("n_ta", "4", **{flag: text})


def test_keys_are_no_values_of_an_axis():
    for values in (jax.random.key(0), jax.random.split(jax.random.key(0), 3)):
        with pytest.raises(ValueError, match="n_ta must be a sequence of different values"):
            simulate.plan_errors(n_ta=values, d=[2], t=[0.1])


@pytest.mark.parametrize("folder", [None, 1, True, 1.5, b"x", [], np.zeros(2)])
def test_a_folder_is_a_path(folder):
    plan = simulate.plan_errors(n_ta=[4], d=[2], t=[0.1])
    for call in (sweep.read_results, sweep.load_results, sweep.to_grid):
        with pytest.raises(ValueError, match="folder must be a path"):
            call(folder)
    with pytest.raises(ValueError, match="out must be a path"):
        sweep.run(plan, folder)
