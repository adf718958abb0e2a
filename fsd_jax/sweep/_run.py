"""Running a plan: fixed blocks, several devices, and a journal that survives a kill.

A block of replicates has its own key, and one compiled loop computes it whatever else runs beside
it. Blocks are merged on the host in float64, in block order. So a result depends on the plan alone,
not on batch size, devices, order or interruptions.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from fsd_jax import _checks
from fsd_jax.sweep._journal import Journal
from fsd_jax.sweep._plan import Group, Plan, Program, settled
from fsd_jax.sweep._results import RESULTS, config_hash, write_results
from fsd_jax.sweep._tally import Tally
from fsd_jax.sweep._together import agree, attempt, everyone, together

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
    The folder is this run's as long as it lasts: another one that wants it is refused. Where there
    are several processes all must be given the same, and an error on one is raised on all.

    Args:
        plan: from `sweep.plan`, or from a planner such as `simulate.plan_errors`.
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
        ValueError: options or a plan out of range; a folder that holds another sweep or, without
            `resume`, anything that a sweep writes; a folder that another run is writing to.
        OSError: the folder cannot be written, which is found before the work.

    Example:
        >>> import tempfile
        >>> from fsd_jax import simulate, sweep
        >>> plan = simulate.plan_errors(n_ta=[4, 8], d=[2], t=[1.0], replicates=100)
        >>> sweep.run(plan, tempfile.mkdtemp()).name
        'results.jsonl'
    """
    work = together(lambda: _settle(plan, batch_size, devices, resume, progress))
    agree(work.facts())
    folder = _checks.path("out", out)
    with contextlib.ExitStack() as held:

        def take() -> Journal | None:
            # Process 0 alone looks at the folder and owns it; the others need not even see it.
            if jax.process_index() > 0:
                return None
            return held.enter_context(Journal(work.plan, folder, resume=work.resume))

        journal = together(take)
        failed = _run(work, journal)
        together(lambda: journal and write_results(work.plan, folder, journal.tallies, failed))
    return folder / RESULTS


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What `run` was asked for, checked."""

    plan: Plan
    batch_size: int
    devices: Sequence[jax.Device]
    resume: bool
    progress: Callable[[int, int], None] | None

    @property
    def workers(self) -> int:
        return len(self.devices) * jax.process_count()

    def facts(self) -> dict[str, Any]:
        """What all processes of a run must have been given alike."""
        return {
            "seed": self.plan.seed,
            "replicates": self.plan.replicates,
            "plan, generator or precision": config_hash(self.plan),
            "batch_size": self.batch_size,
            "number of devices": len(self.devices),
            "resume": self.resume,
        }


def _settle(plan: Plan, batch_size: Any, devices: Any, resume: Any, progress: Any) -> _Work:
    _checks.callback("progress", progress)
    return _Work(
        plan=settled(plan),
        batch_size=_checks.dimension("batch_size", batch_size),
        devices=_devices(devices),
        resume=_checks.boolean("resume", resume),
        progress=progress,
    )


def _run(work: _Work, journal: Journal | None) -> dict[int, str]:
    """Bring all groups to all replicates; why some failed, by place."""
    groups, failed = work.plan.groups, {}
    if journal is not None:
        for index, group in enumerate(groups):
            journal.tallies.setdefault(index, Tally.empty(len(group.cells)))
    begun = np.array([journal.tallies[i].blocks if journal else 0 for i in range(len(groups))])
    begun = everyone(begun[None])[0].tolist()
    done = sum(begun)

    def record(index: int, values: list[np.ndarray]) -> None:
        if journal is not None:
            journal.append(index, values)
        if work.progress is not None:
            work.progress(done, work.plan.blocks)

    with ThreadPoolExecutor(len(work.devices)) as pool:
        for index, group in enumerate(groups):
            for found in _advance(work, group, begun[index], pool):
                if isinstance(found, Exception):
                    # One group must not take the sweep down; its rows say why it has no numbers.
                    log.warning("sweep: %s failed: %s", group.identity, found)
                    failed[index] = f"failed: {type(found).__name__}: {found}".splitlines()[0]
                    break
                done += len(found)
                # A full disk, or a caller who stops the sweep, is no failure of the group.
                together(partial(record, index, found))
    return failed


def _advance(
    work: _Work, group: Group, begun: int, pool: Executor
) -> Iterator[list[np.ndarray] | Exception]:
    """The values of a group's blocks from `begun` on, a batch at a time, or why there are none."""
    block, workers, replicates = group.program.block, work.workers, work.plan.replicates
    total = -(-replicates // block)
    capacity = max(work.batch_size // (block * workers), 1)
    draw = _compiled(group.program, capacity)
    key = stream(work.plan.seed, group.identity)

    def one(device: jax.Device, bounds: np.ndarray) -> np.ndarray:
        given = jax.device_put((key, bounds, *group.arguments), device)
        return np.asarray(draw(*given))

    def compute(bounds: np.ndarray) -> np.ndarray:
        values = np.stack(list(pool.map(one, work.devices, bounds)))
        if values.shape[2:] != (len(group.cells), block):
            raise ValueError(
                f"a program must return (rows, block) = {(len(group.cells), block)}, one row for "
                f"each cell of its group, got {values.shape[2:]}"
            )
        return values

    while begun < total:
        first, last = begun, min(begun + capacity * workers, total)
        each = -(-(last - first) // workers)
        starts = np.minimum(first + each * np.arange(workers), last)
        stops = np.minimum(starts + each, last)
        bounds = np.stack([starts, stops], axis=1)
        mine = bounds[jax.process_index() * len(work.devices) :][: len(work.devices)]
        values = attempt(partial(compute, mine))
        if isinstance(values, Exception):
            yield values
            return
        values, found = everyone(values), []
        for number in range(first, last):
            worker, place = divmod(number - first, each)
            live = min(replicates - number * block, block)
            found.append(values[worker, place, :, :live])
        begun = last
        yield found


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
        real = isinstance(shape, jax.ShapeDtypeStruct)
        if not real or jnp.issubdtype(shape.dtype, jnp.complexfloating):
            raise ValueError(f"a program must return one array of real numbers, got {shape}")
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
