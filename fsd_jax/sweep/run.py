"""Running a plan: fixed blocks, several devices, and a journal that survives a kill.

A block of replicates has its own key, and one compiled loop computes it whatever else runs beside
it. Blocks are merged on the host in float64, in block order. So a result depends on the plan alone,
not on batch size, devices, order or interruptions.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache
from os import PathLike
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from fsd_jax import _checks
from fsd_jax.sweep.grid import Group, Plan, Program
from fsd_jax.sweep.table import Journal, Tally, write_results

log = logging.getLogger("fsd_jax")
BATCH_SIZE = 65_536
"""Replicates between two entries of the journal: about a tenth of a second's work."""


def run(
    plan: Plan,
    out: str | PathLike[str],
    *,
    batch_size: int = BATCH_SIZE,
    devices: int | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run a plan, durably, and write ``results.jsonl`` and ``manifest.json`` into a folder.

    Killed at any moment, it can be resumed: at most the running batch is done again and the results
    end with the same bytes. A group that fails is recorded in its rows' status; the others go on.

    Args:
        plan: from `plan_errors`, or your own cells and programs.
        out: folder, made when missing.
        batch_size: replicates between two journal entries, rounded down to whole blocks on every
            device (but at least one): a batch's values are what is in memory, and what a kill
            loses. Results do not depend on it.
        devices: use this many of each process's devices; None is all. Results do not depend on it.
        resume: go on with what the folder holds; otherwise it must hold no sweep.
        progress: called with the numbers of finished and of all blocks; what it raises ends the
            run, which can be resumed.

    Returns:
        The path of ``results.jsonl``.

    Raises:
        ValueError: options out of range, a folder that holds another sweep or, without `resume`,
            any sweep.
        OSError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from fsd_jax import sweep
        >>> plan = sweep.plan_errors(n_ta=[4, 8], d=[2], t=[1.0], replicates=100)
        >>> sweep.run(plan, tempfile.mkdtemp()).name
        'results.jsonl'
    """
    batch_size = _checks.dimension("batch_size", batch_size)
    chosen = _devices(devices)
    journal = Journal(plan, Path(out), resume=resume, writes=jax.process_index() == 0)
    # Nobody may write before everybody has read.
    _meet("fsd_jax sweep: read")
    journal.begin()
    failed: dict[int, str] = {}
    done = sum(tally.blocks for tally in journal.tallies.values())
    with ThreadPoolExecutor(len(chosen)) as pool:
        for index, group in enumerate(plan.groups):
            tally = journal.tallies.setdefault(index, Tally.empty(len(group.cells)))
            before = tally.blocks
            batches = _advance(plan, group, tally, pool, chosen, batch_size)
            while True:
                try:
                    next(batches)
                except StopIteration:
                    break
                except Exception as error:
                    # One group must not take the sweep down; its rows say why it has no numbers.
                    log.warning("sweep: %s failed: %s", group.identity, error)
                    failed[index] = f"failed: {type(error).__name__}: {error}".splitlines()[0]
                    break
                # A full disk, or a caller who stops the sweep, is no failure of the group.
                journal.append(index, tally)
                if progress is not None:
                    progress(done + tally.blocks - before, plan.blocks)
            done += tally.blocks - before
    _meet("fsd_jax sweep: done")
    return write_results(plan, Path(out), journal, failed)


def _advance(
    plan: Plan, group: Group, tally: Tally, pool: Executor, devices: Sequence[jax.Device],
    batch_size: int,
) -> Iterator[None]:  # fmt: skip
    """Bring a tally to all replicates, one batch at a time; yields after each."""
    block = group.program.block
    total = -(-plan.replicates // block)
    workers = len(devices) * jax.process_count()
    capacity = max(batch_size // (block * workers), 1)
    draw = _compiled(group.program, capacity)
    key = stream(plan.seed, group.identity)

    def work(device: jax.Device, bounds: np.ndarray) -> np.ndarray:
        given = jax.device_put((key, bounds, *group.arguments), device)
        return np.asarray(draw(*given))

    while tally.blocks < total:
        first, last = tally.blocks, min(tally.blocks + capacity * workers, total)
        each = -(-(last - first) // workers)
        starts = np.minimum(first + each * np.arange(workers), last)
        stops = np.minimum(starts + each, last)
        bounds = np.stack([starts, stops], axis=1)
        mine = bounds[jax.process_index() * len(devices) :][: len(devices)]
        values = _gather(np.stack(list(pool.map(work, devices, mine))))
        for number in range(first, last):
            worker, place = divmod(number - first, each)
            live = min(plan.replicates - number * block, block)
            tally.add(values[worker, place, :, :live])
        yield


def stream(seed: int, identity: str) -> Key[Array, ""]:
    """The random stream of a group: stable, whatever else is in the plan."""
    digest = hashlib.sha256(identity.encode()).digest()
    key = jax.random.key(seed)
    for place in (0, 4):
        key = jax.random.fold_in(key, int.from_bytes(digest[place : place + 4], "little"))
    return key


@lru_cache(maxsize=1024)
def _compiled(program: Program, capacity: int) -> Callable[..., Array]:
    """The program over a batch of blocks, for one device.

    The number of blocks is an argument: a loop of unknown length is not unrolled, so that every
    batch runs the same code and rounds alike. For the same reason each device has its own copy of
    this program, instead of one program partitioned over devices: XLA optimises that differently.
    """

    @jax.jit
    def draw(key: Array, bounds: Array, *arguments: Array) -> Array:
        start, stop = bounds

        def one(place: Array, values: Array) -> Array:
            fresh = program(jax.random.fold_in(key, start + place), *arguments)
            # Fused into the write, the program's last step would round as the buffer's size has it.
            return values.at[place].set(jax.lax.optimization_barrier(fresh))

        shape = jax.eval_shape(program, key, *arguments)
        # A buffer with one place only would be simplified away, and the loop be fused differently.
        empty = jnp.zeros((max(capacity, 2), *shape.shape), shape.dtype)
        return jax.lax.fori_loop(0, stop - start, one, empty)

    return draw


def _devices(number: int | None) -> list[jax.Device]:
    available = jax.local_devices()
    if number is None:
        return available
    number = _checks.dimension("devices", number, high=len(available), top=" (the devices here)")
    return available[:number]


def _gather(values: np.ndarray) -> np.ndarray:
    """All workers' values on every host."""
    if jax.process_count() == 1:
        return values
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values, tiled=True))


def _meet(name: str) -> None:
    """Wait for the other processes, where there are any."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
