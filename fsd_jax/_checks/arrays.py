"""The one conversion of what users pass as arrays, and checks of shapes and columns."""

import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsd_jax._checks.status import Status, flag, is_traced

logger = logging.getLogger("fsd_jax")
logger.addHandler(logging.NullHandler())

_COMMON = (np.dtype(np.float32), np.dtype(np.float64))

_told: set[str] = set()


def _log_once(what: str, message: str) -> None:
    if what not in _told:
        _told.add(what)
        logger.warning(message)


def array(name: str, value: Any) -> np.ndarray | jax.Array:
    """Integers or floating numbers as an array: on the host, unless it is a `jax.Array` already.

    A `jax.Array` stays where it is, sharded or traced. Anything else goes through `np.asarray` or,
    where that fails, DLPack, and ends in native byte order. Half precision is widened to float32,
    since no decomposition exists for it; more than double is narrowed to float64.

    Raises:
        ValueError: what cannot be read as an array, and boolean, complex, object or masked ones.
    """
    given = value if isinstance(value, jax.Array) else _host(name, value)
    dtype = given.dtype
    if dtype in _COMMON and dtype.isnative:
        # Before tests that take as long as a small decomposition.
        return given
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    # NumPy counts time spans among the integers.
    if not real or jnp.issubdtype(dtype, np.timedelta64):
        what = f" (a {type(value).__name__})" if dtype == np.dtype(object) else ""
        raise ValueError(
            f"{name} must be a floating array, got dtype {dtype}{what}; "
            "pass a dense NumPy or JAX array of real numbers"
        )
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        return given.astype(np.float32)
    if dtype.itemsize > 8:
        _log_once("long", f"{name} has {dtype} entries and is narrowed to float64")
        return given.astype(np.float64)
    if isinstance(given, np.ndarray) and not dtype.isnative:
        return given.astype(dtype.newbyteorder("="))
    return given


def _host(name: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(
                f"{name} has masked entries; fill them, or drop the rows that hold them"
            )
        value = value.data
    result, reason = None, ""
    # A tensor may refuse either way, with an exception of any kind.
    try:
        result = np.asarray(value)
    except Exception as error:
        reason = str(error)
    if (result is None or result.dtype.kind == "O") and hasattr(value, "__dlpack__"):
        try:
            result = np.from_dlpack(value)
        except Exception as error:
            reason = reason or str(error)
    if result is None:
        line = reason.splitlines()[0] if reason else "no reason given"
        raise ValueError(
            f"{name} is not an array: a {type(value).__name__} could not be read ({line}); pass a "
            f"NumPy or JAX array, for a tensor of another library {name}.detach().cpu().numpy()"
        )
    return result


def floating(
    name: str, value: Any, *, ndim: Sequence[int] | None = None
) -> tuple[jax.Array, Status]:
    """A floating JAX array, and `Status.DOWNCAST` if float64 had to be narrowed.

    Raises:
        ValueError: what `array` refuses, integers, or a wrong number of axes.
    """
    given = array(name, value)
    _refuse_integers(name, given)
    if ndim is not None and given.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise ValueError(
            f"{name} must have {wanted} axes, got shape {tuple(given.shape)}; "
            "a single sample x is x[None]"
        )
    return on_device(given)


def _refuse_integers(name: str, given: np.ndarray | jax.Array) -> None:
    if given.dtype in _COMMON:
        return
    line = f"{name}.astype('float32')"
    if given.dtype.itemsize == 1:
        line = f"{line} / 255 scales pixels to [0, 1]"
    raise ValueError(
        f"{name} must be a floating array, got dtype {given.dtype}; convert it first: {line}"
    )


def on_device(given: np.ndarray | jax.Array) -> tuple[jax.Array, Status]:
    """A floating array as a JAX array, float64 narrowed and told where x64 mode is off."""
    if given.dtype != np.float64 or jax.config.read("jax_enable_x64"):
        return given if isinstance(given, jax.Array) else jnp.asarray(given), Status.OK
    _log_once(
        "downcast",
        "float64 input is computed in float32, because JAX's x64 mode is off; "
        'jax.config.update("jax_enable_x64", True) at program start keeps float64',
    )
    if isinstance(given, jax.Array):
        return given.astype(jnp.float32), Status.DOWNCAST
    with np.errstate(over="ignore", under="ignore"):
        return jnp.asarray(given.astype(np.float32)), Status.DOWNCAST


def sample_rows(
    name: str, value: Any, *, least: int = 1, images: bool = False
) -> np.ndarray | jax.Array:
    """Samples as a floating ``(n, D)`` array in their own dtype, on the host if they were there.

    Rows that a masked array masks as a whole are left out.

    Args:
        name: the argument's name.
        value: ``(n, D)``, or ``(n, ...)`` with `images`, whose trailing axes are flattened.
        least: the number of rows that must be there.
        images: whether more than two axes are allowed.

    Raises:
        ValueError: wrong dtype or axes, no data, fewer than `least` rows.
    """
    given = array(name, _unmasked_rows(name, value))
    _refuse_integers(name, given)
    if given.ndim < 2 or (given.ndim > 2 and not images):
        shape = "(n, D) or (n, ...)" if images else "(n, D)"
        raise ValueError(
            f"{name} must have shape {shape}, got {tuple(given.shape)}; "
            f"reshape it, or use {name}[None] for a single sample"
        )
    if given.size == 0:
        raise ValueError(
            f"{name} is empty, got shape {tuple(given.shape)}; pass at least one sample"
        )
    if given.shape[0] < least:
        raise ValueError(
            f"{name} has {given.shape[0]} row and needs at least {least} to be centred on its own "
            "mean; give more samples or do not centre it on itself (centre=False, or "
            "mean='source')"
        )
    return given if given.ndim == 2 else given.reshape(given.shape[0], -1)


def sample_shape(name: str, value: Any) -> tuple[int, ...]:
    """The shape of one sample: all axes but the first."""
    # Not every tensor has a shape that NumPy can ask for.
    given = value if isinstance(value, (np.ndarray, jax.Array)) else array(name, value)
    return tuple(given.shape[1:])


def _unmasked_rows(name: str, value: Any) -> Any:
    if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value) or not value.ndim:
        return value
    hidden = np.ma.getmaskarray(value).reshape(len(value), -1)
    partly = np.flatnonzero(hidden.any(axis=1) & ~hidden.all(axis=1))
    if partly.size:
        raise ValueError(
            f"{name} has {partly.size} rows with some masked entries (first: row {partly[0]}); "
            "only rows masked as a whole can be left out: fill the others or mask them whole"
        )
    return value.data[~hidden.all(axis=1)]


def samples(
    name: str, value: Any, *, rows: int = 1, images: bool = False
) -> tuple[jax.Array, Status]:
    """`sample_rows` as a JAX array, with the status of `floating`."""
    return on_device(sample_rows(name, value, least=rows, images=images))


def row_mask(name: str, mask: Any, n: int, *, rows: int) -> jax.Array:
    """``(n,)`` booleans that keep at least `rows` rows."""
    given = mask if isinstance(mask, jax.Array) else _host(name, mask)
    if given.shape != (n,) or given.dtype != np.bool_:
        raise ValueError(
            f"{name} must be {n} booleans, one for each row, got shape {tuple(given.shape)} "
            f"and dtype {given.dtype}"
        )
    left = given.sum()
    if not is_traced(left) and int(left) < rows:
        raise ValueError(f"{name} leaves {int(left)} rows and at least {rows} are needed")
    return jnp.asarray(given)


def same_rows(**arrays: Any) -> tuple[jax.Array, ...]:
    """Floating arrays of two axes over the same D rows, in the widest of their dtypes.

    Raises:
        ValueError: what `floating` refuses, or different D.
    """
    given = {name: floating(name, value, ndim=(2,))[0] for name, value in arrays.items()}
    if len({x.shape[0] for x in given.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise ValueError(f"arrays must have the same number D of rows, got shapes {shapes}")
    dtype = max((x.dtype for x in given.values()), key=lambda d: d.itemsize)
    return tuple(x.astype(dtype) for x in given.values())


@jax.jit
def _orthonormality_defect(basis: jax.Array) -> jax.Array:
    gram = jnp.matmul(basis.T, basis, precision="highest")
    size = jnp.diagonal(gram)
    # A zero column is no direction and harms nothing.
    wanted = jnp.where(size > 0.5, jnp.ones_like(size), jnp.zeros_like(size))
    return jnp.max(jnp.abs(gram - jnp.diag(wanted)), initial=0)


def orthonormal(name: str, basis: jax.Array) -> jax.Array | np.int32:
    """Refuse columns that are not orthonormal (or zero); under a trace a status.

    A squaring route may leave a defect of many eps, so half of the dtype's digits are asked for.
    """
    limit = 8 * float(jnp.finfo(basis.dtype).eps) ** 0.5
    defect = _orthonormality_defect(basis)
    if is_traced(defect):
        return flag(~(defect <= limit), Status.BAD_VALUE)
    if not float(defect) <= limit:
        raise ValueError(
            f"{name} must have orthonormal columns, got |B'B - I| up to {float(defect):.3g}; "
            "orthonormalise it, for example by np.linalg.qr"
        )
    return np.int32(0)
