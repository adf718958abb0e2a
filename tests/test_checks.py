"""The one conversion of arrays, and the helpers that every public function uses."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import DataWarning, Status, _checks

X = np.arange(12, dtype=np.float32).reshape(4, 3)


class Tensor:
    """A tensor of another library: it refuses `__array__` and offers DLPack."""

    def __init__(self, data, dlpack=True):
        self.data, self.dlpack = data, dlpack

    def __array__(self, *args, **kwargs):
        raise RuntimeError("cannot call numpy() on a tensor that needs a gradient")

    def __dlpack__(self, **kwargs):
        if not self.dlpack:
            raise BufferError("no DLPack either")
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()


@pytest.mark.parametrize(
    "given",
    [
        X.astype(">f4"),
        X.astype(np.float16),
        X.astype(jnp.bfloat16),
        X.astype(np.longdouble),
        X.tolist(),
        np.asfortranarray(X),
        X[::-1][::-1],
        Tensor(X.copy()),
        np.ma.masked_array(X, False),
    ],
    ids=[
        "big-endian",
        "half",
        "bfloat16",
        "long",
        "list",
        "fortran",
        "strides",
        "tensor",
        "masked",
    ],
)
def test_what_can_be_read_is_read_in_native_order(given):
    array = _checks.array("x", given)
    assert array.dtype.isnative
    assert array.dtype.itemsize in (4, 8)
    np.testing.assert_array_equal(array, X)
    moved, _ = _checks.floating("x", given)
    np.testing.assert_array_equal(moved, X)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Tensor(X, dlpack=False), "x is not an array: a Tensor could not be read .cannot call"),
        (X.astype(complex), "x must be a floating"),
        (X > 1, "x must be a floating"),
        (X.astype(object), "x must be a floating"),
        (object(), "a object"),
        (np.ma.masked_array(X, X == 4), "x has masked entries"),
        ("pictures", "x must be a floating"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(given, words):
    with pytest.raises(ValueError, match=words):
        _checks.array("x", given)


def test_a_jax_array_stays_what_it_is():
    x = jnp.asarray(X)
    assert _checks.array("x", x) is x
    assert _checks.samples("x", x)[0] is x


def test_rows_masked_as_a_whole_are_left_out_and_others_refused():
    mask = np.zeros(X.shape, bool)
    mask[1] = True
    kept, _ = _checks.samples("x", np.ma.masked_array(X, mask))
    np.testing.assert_array_equal(kept, X[[0, 2, 3]])
    mask[2, 0] = True
    with pytest.raises(ValueError, match=r"x has 1 rows with some masked entries \(first: row 2"):
        _checks.samples("x", np.ma.masked_array(X, mask))


def test_pictures_of_bytes_are_refused_with_the_line_to_write():
    with pytest.raises(ValueError, match=r"x\.astype\('float32'\) / 255"):
        _checks.samples("x", X.astype(np.uint8))


@pytest.mark.parametrize("value", [1e-39, np.float32(1e-39), np.array([1e-50]), [1.0, 1e-40]])
def test_numbers_that_a_device_rounds_to_zero_are_refused(value):
    with pytest.raises(ValueError, match="time must be positive"):
        _checks.positive("time", value, np.float32)
    code = jax.jit(lambda v: _checks.positive("time", v, jnp.float32)[1])(
        jnp.asarray(value, jnp.float32)
    )
    assert code == Status.BAD_VALUE


def test_checked_values_are_those_used_and_jax_arrays_stay_on_the_device():
    value, status = _checks.positive("w", jnp.array([1.0, 2.0]), jnp.float32)
    assert isinstance(value, jax.Array)
    assert status == 0
    with pytest.raises(ValueError, match="w must be positive"):
        _checks.positive("w", jnp.array([1.0, -2.0]), jnp.float32)
    value, _ = _checks.positive("w", np.int64(3), np.float32)
    assert value.dtype == np.float32
    assert value == 3


def test_times_are_checked_and_traced_ones_become_nan():
    np.testing.assert_array_equal(_checks.time("t", [[0.1], [2]], np.float32).shape, (2, 1))
    for bad in (0.0, -1.0, np.nan, np.inf, [0.1, 0.0]):
        with pytest.raises(ValueError, match="t must be positive"):
            _checks.time("t", bad, np.float32)
    assert _checks.time("t", 0, np.float32, zero=True) == 0
    out = jax.jit(lambda t: _checks.time("t", t, jnp.float32))(jnp.array([0.5, -1.0, 0.0]))
    np.testing.assert_array_equal(out, [0.5, np.nan, np.nan])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: _checks.key("key", 0), "key must be a JAX random key, got 0 .int"),
        (lambda: _checks.key("key", jnp.zeros(3)), "key must be a JAX random key"),
        (lambda: _checks.key("key", jax.random.split(jax.random.key(0))), "must be one key"),
        (lambda: _checks.key("key", jnp.zeros(7, jnp.uint32)), "not a raw JAX random key"),
        (lambda: _checks.boolean("mean", "no"), "mean must be True or False, got 'no'"),
        (lambda: _checks.boolean("mean", 1), "mean must be True or False"),
        (lambda: _checks.callback("progress", 3), "progress must be a function or None"),
        (lambda: _checks.instance("moment", X, int, "make one"), "moment must be a int.*make one"),
        (lambda: _checks.same_rows(decoder=X, subspace=X[:2]), r"decoder \(4, 3\), subspace"),
        (lambda: _checks.same_rows(decoder=X[0]), "decoder must have 2 axes"),
        (lambda: _checks.orthonormal("A", jnp.asarray(X)), "A must have orthonormal columns"),
        (lambda: _checks.orthonormal("A", jnp.full((3, 1), jnp.nan)), "orthonormal"),
        (lambda: _checks.row_mask("mask", np.ones(3), 3, rows=1), "mask must be 3 booleans"),
    ],
)
def test_the_wrong_kind_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_right_kind_passes():
    raw = jax.random.key_data(jax.random.key(3))
    assert _checks.key("key", raw) == jax.random.key(3)
    assert _checks.boolean("mean", np.bool_(True)) is True
    assert _checks.dimension("n", np.int16(4)) == 4
    basis = jnp.eye(4)[:, :2].at[:, 1].set(0)
    assert _checks.orthonormal("A", basis) == 0
    code = jax.jit(lambda b: _checks.orthonormal("A", b))(2 * basis)
    assert code == Status.BAD_VALUE
    _checks.callback("progress", None)


def test_what_data_hardly_mean_is_told_at_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _checks.tell("two scales")
    assert caught[0].category is DataWarning
    assert caught[0].filename == __file__


def test_key_arrays_and_spans_of_time_are_no_numbers():
    spans = np.zeros((3, 2), "m8[s]")
    for value in (jax.random.key(0), jax.random.split(jax.random.key(0), 3), spans):
        with pytest.raises(ValueError, match="x must be a floating array"):
            _checks.array("x", value)


def test_any_object_can_be_named_in_a_message():
    # A module and a class have attributes called shape that are no tuples.
    for value in (np, np.ndarray, {"shape": 3}, object()):
        with pytest.raises(ValueError, match="flag must be True or False, got"):
            _checks.boolean("flag", value)


@pytest.mark.parametrize(
    "value", [None, 0, 1, True, 1.5, b"x", ["x"], np.zeros(2), jax.random.key(0), "a\0b"]
)
def test_a_path_is_no_file_descriptor_and_no_other_kind(value):
    with pytest.raises(ValueError, match="folder must be a path"):
        _checks.path("folder", value)


@pytest.mark.parametrize(
    "value", [None, True, "1", b"1", [1.0], np.ones(1), np.nan, np.inf, 10**400, np, {}]
)
def test_a_number_is_one_finite_number(value):
    with pytest.raises(ValueError, match="rate must be a finite number"):
        _checks.number("rate", value)
    assert _checks.number("rate", np.float32(0.5)) == _checks.number("rate", jnp.ones(()) / 2)


def test_a_size_beyond_every_array_is_refused_and_a_count_is_not():
    for value in (2**31, 10**40):
        with pytest.raises(ValueError, match="n must be at most 2147483647"):
            _checks.dimension("n", value)
        assert _checks.dimension("n", value, high=np.inf) == value


def test_no_times_are_times_of_that_shape():
    assert _checks.time("t", np.zeros((0, 2)), np.float32).shape == (0, 2)


@pytest.mark.parametrize(
    "status", [None, "no", np.nan, np.inf, 1.5, object(), jax.random.key(0), {}, [[1], [1, 2]]]
)
def test_only_a_status_is_described(status):
    with pytest.raises(ValueError, match="status must be an integer"):
        _checks.describe(status)
