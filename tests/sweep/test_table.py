"""Results as tables and grids, of every kind of plan."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import latent_net, ledger, simulate, sweep


@dataclass(frozen=True)
class Counting:
    """Row ``i`` is ``i``: where a number ends up shows which cell it was."""

    rows: int
    block: int = 2

    def __call__(self, key):
        return jnp.broadcast_to(jnp.arange(self.rows, dtype=jnp.float32)[:, None], (self.rows, 2))


def _ran(plan, folder, **change):
    """The plan's cells and axes, with a program that costs nothing."""
    rows = len(plan.cells)
    group = sweep.Group(
        identity="counting", cells=tuple(range(rows)), program=Counting(rows), arguments=()
    )
    sweep.run(dataclasses.replace(plan, groups=[group], replicates=2, **change), folder)
    return sweep.to_grid(folder), sweep.read_results(folder)


SIZES = dict(n_ta=[4, 8], n_s=[100, 200], d=[2, 3])
PLANS = {
    "errors": lambda: simulate.plan_errors(**SIZES, t=[0.1, 1.0], metric=["kl", "score_error"]),
    "ledger": lambda: ledger.plan_ledger(**SIZES, D=[6, 9], tau=[0.1, 0.3], steps=[8]),
    "section4": lambda: latent_net.plan_section4(**SIZES),
    "section4 in one space": lambda: latent_net.plan_section4(**SIZES, D=12),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_becomes_a_grid(name, tmp_path):
    data, rows = _ran(PLANS[name](), tmp_path)
    assert data["mean"].size == len(rows)
    for number in (0, 7, len(rows) - 1):
        where = {n: rows[number][n] for n in data.dims}
        where = {n: 0 if n == "D" and v is None else v for n, v in where.items()}
        assert float(data["mean"].sel(where)) == number
    assert set(data.data_vars) == {"mean", "stderr", "q05", "q50", "q95"}
    assert {"n_ta", "n_s", "d", "metric"} <= set(data.dims)


def test_a_perfect_source_and_no_noise_have_places_too(tmp_path):
    plan = simulate.plan_errors(n_ta=[4], n_s=[50, None], d=[2], t=[1.0], D=[8, 9], tau=[0.0, 0.3])
    data, rows = _ran(plan, tmp_path)
    assert data["n_s"].values.tolist() == [50.0, np.inf]
    assert data["D"].values.tolist() == [0, 8, 9]
    for number, row in enumerate(rows):
        where = {"n_s": row["n_s"] or np.inf, "D": row["D"] or 0, "tau": row["tau"]}
        assert data["mean"].sel(where).item() == number


@dataclass(frozen=True)
class Largest:
    """The example of docs/sweeps.md."""

    n: int
    block: int = 1024

    def __call__(self, key, scale):
        import jax

        return scale * jax.random.normal(key, (self.n, self.block)).max(axis=0)[None, :]


def test_the_example_of_the_documentation_is_a_grid(tmp_path):
    make = lambda n: (Largest(n), [np.float32(1)])
    plan = sweep.plan({"n": [10, 100]}, make, replicates=5000)
    sweep.run(plan, tmp_path)
    data = sweep.to_grid(tmp_path)
    assert dict(data.sizes) == {"n": 2}
    # The expected maxima of 10 and 100 normal numbers (Harter, 1961).
    for n, exact in ((10, 1.53875), (100, 2.50759)):
        at = data.sel(n=n)
        assert abs(float(at["mean"]) - exact) < 4.5 * float(at["stderr"])


def test_a_plan_of_ones_own_without_axes_is_gridded_by_its_cells(tmp_path):
    cells = [{"kind": kind, "size": size} for kind in ("a", "b") for size in (1, 2)]
    plan = sweep.Plan(axes={}, cells=cells, groups=[], seed=0, replicates=2, dtype="float32")
    data, _ = _ran(plan, tmp_path)
    assert dict(data.sizes) == {"kind": 2, "size": 2}
    assert float(data["mean"].sel(kind="b", size=1)) == 2


def test_numpys_numbers_in_cells_of_ones_own(tmp_path):
    cells = [{"n": np.int64(4), "x": np.float32(0.5)}, {"n": np.int32(8), "x": np.float64(0.5)}]
    axes = {"n": np.array([4, 8]), "x": (np.float32(0.5),)}
    plan = sweep.Plan(
        axes=axes,
        cells=cells,
        groups=[],
        seed=np.int64(0),
        replicates=np.int8(2),
        dtype=np.dtype("float32"),
    )
    data, rows = _ran(plan, tmp_path)
    assert [row["n"] for row in rows] == [4, 8]
    assert dict(data.sizes) == {"n": 2, "x": 1}


def test_points_that_the_axes_do_not_tell_apart(tmp_path):
    cells = [{"n": 1, "run": 1}, {"n": 1, "run": 2}]
    plan = sweep.Plan(axes={"n": [1]}, cells=cells, groups=[], seed=0, replicates=2, dtype="f")
    with pytest.raises(ValueError, match=r"several rows for one point of the axes \['n'\]"):
        _ran(plan, tmp_path)
    assert len(sweep.load_results(tmp_path)) == 2


def test_a_grid_needs_the_manifest(tmp_path):
    _ran(PLANS["errors"](), tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"holds no manifest\.json"):
        sweep.to_grid(tmp_path)


WRONG = {
    "ten columns": lambda values: values[:, :10],
    "a row too many": lambda values: jnp.concatenate([values, values]),
    "no rows": lambda values: values[0],
    "a number": lambda values: values[0, 0],
    "two arrays": lambda values: (values, values),
    "complex": lambda values: values * 1j,
}


@dataclass(frozen=True)
class Wrong:
    """A program that does not return what it must."""

    kind: str
    block: int = 64

    def __call__(self, key):
        return WRONG.get(self.kind, lambda values: values)(jnp.ones((1, 64)))


def test_what_a_program_must_not_return_is_a_failure_of_its_group(tmp_path):
    kinds = [*WRONG, "right"]
    groups = [
        sweep.Group(identity=kind, cells=(i,), program=Wrong(kind), arguments=())
        for i, kind in enumerate(kinds)
    ]
    plan = sweep.Plan(
        axes={"kind": kinds},
        cells=[{"kind": kind} for kind in kinds],
        groups=groups,
        seed=0,
        replicates=100,
        dtype="float32",
    )
    rows = {row["kind"]: row for row in sweep.read_results(sweep.run(plan, tmp_path).parent)}
    assert (rows["right"]["mean"], rows["right"]["status"]) == (1.0, "ok")
    for kind in WRONG:
        assert rows[kind]["mean"] is None
        assert rows[kind]["status"].startswith("failed: ValueError: a program must return")
    assert "(rows, block) = (1, 64)" in rows["ten columns"]["status"]
    assert "got (1, 10)" in rows["ten columns"]["status"]
