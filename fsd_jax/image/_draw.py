"""Drawing many pictures on every core."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fsd_jax import _checks

STYLES, ROLES = ("avatars", "critters"), ("source", "target")
"""What `fsd_jax.image._painter` draws; it is not asked, because loading it needs the extra."""
Progress = Callable[[int, int], None]

WORTH_A_PROCESS = 100
"""Pictures that take longer to draw than a process takes to start."""


def pictures(
    style: str,
    role: str,
    *,
    count: int,
    size: int,
    seed: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` distinct pictures and their labels.

    The result does not depend on the number of workers.

    Args:
        style: ``"avatars"`` or ``"critters"``.
        role: ``"source"`` or ``"target"``.
        count: number of pictures.
        size: side in pixels.
        seed: base seed.
        workers: number of processes; None is one a core.
        progress: called with ``(pictures drawn, pictures to draw)``.

    Returns:
        ``(count, size, size, 3)`` uint8 and ``(count,)`` uint8.
    """
    _checks.choice("style", style, STYLES)
    _checks.choice("role", role, ROLES)
    count, size = _checks.dimension("count", count, low=0), _checks.dimension("size", size)
    seed = _checks.dimension("seed", seed, low=0)
    if workers is not None:
        workers = _checks.dimension("workers", workers)
    _checks.callback("progress", progress)
    images = np.empty((count, size, size, 3), np.uint8)
    labels = np.empty(count, np.uint8)
    places = {index: index for index in range(count)}
    seen: set[bytes] = set()
    following = count
    while places:
        for done, (index, label, pixels) in enumerate(
            _drawn(style, role, list(places), size, seed, workers), start=1
        ):
            labels[places[index]], images[places[index]] = label, pixels
            if progress is not None and len(places) == count:
                progress(done, count)
        # A picture that is there already is replaced by the next one of the stream.
        again = []
        for place in sorted(places.values()):
            content = images[place].tobytes()
            if content in seen:
                again.append(place)
            seen.add(content)
        places = {following + i: place for i, place in enumerate(again)}
        following += len(again)
        if following > 10 * count + 100:
            raise ValueError(f"size = {size} is too small for {count} distinct {style}")
    return images, labels


def _drawn(
    style: str, role: str, indices: list[int], size: int, seed: int, workers: int | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """``(index, label, pixels)`` in any order."""
    job = {"style": style, "role": role, "size": size, "seed": seed}
    wanted = (os.cpu_count() or 1) if workers is None else workers
    wanted = min(wanted, len(indices) // WORTH_A_PROCESS)
    if wanted < 2:
        from fsd_jax.image import _painter

        for index in indices:
            yield index, *_painter.draw(style, role, seed, index, size)
        return
    arrived: queue.Queue = queue.Queue()
    with contextlib.ExitStack() as stack:
        for worker in range(wanted):
            share = indices[worker::wanted]
            process = stack.enter_context(_start({**job, "indices": share}))
            stack.callback(process.kill)
            threading.Thread(
                target=_read, args=(process, share, size, arrived), daemon=True
            ).start()
        for _ in indices:
            item = arrived.get()
            if isinstance(item, Exception):
                raise item
            yield item


def _start(job: dict) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("_painter.py")
    # The worker finds the packages that this process finds.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-P", str(script), json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def _read(
    process: subprocess.Popen[bytes], share: list[int], size: int, arrived: queue.Queue
) -> None:
    """Pass on what a worker writes, or why it stopped."""
    assert process.stdout is not None
    assert process.stderr is not None
    length = 1 + 3 * size * size
    for index in share:
        frame = process.stdout.read(length)
        if len(frame) < length:
            words = process.stderr.read().decode(errors="replace").strip().splitlines()
            reason = words[-1] if words else f"exit status {process.wait()}"
            arrived.put(RuntimeError(f"a process that draws pictures stopped: {reason}"))
            return
        pixels = np.frombuffer(frame, np.uint8, offset=1).reshape(size, size, 3)
        arrived.put((index, frame[0], pixels))
