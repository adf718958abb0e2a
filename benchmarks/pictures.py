"""Pictures that travel in records, and sheets of them."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks import drawing
from benchmarks.records import PICTURES, Record, record
from benchmarks.table import Table


def rows(data: str, images: Mapping[str, np.ndarray]) -> Iterator[Record]:
    """Named pictures ``(n, H, W[, C])`` with values in ``[0, 1]``, in eight bits."""
    for name, each in images.items():
        packed = np.round(255 * np.clip(each, 0, 1)).astype(np.uint8)
        note = base64.b64encode(packed).decode()
        shape = list(packed.shape[1:])
        yield record(data, len(each), method=name, metric=PICTURES, shape=shape, note=note)


def of(table: Table, data: str) -> dict[str, np.ndarray]:
    """The pictures of a data set by their names."""
    found = {}
    for row in table.present(data=data, metric=PICTURES):
        flat = np.frombuffer(base64.b64decode(row["note"]), np.uint8)
        found[row["method"]] = flat.reshape(row["value"], *row["shape"]) / 255
    return found


def sheet(
    table: Table, data: str, titles: Mapping[str, str], words: Callable[[str], str], title: str
) -> Any:
    """A line of pictures for each title that has some, with `words` on its name; None without."""
    images = of(table, data)
    shown = [name for name in titles if name in images]
    if not shown:
        return None
    columns = len(images[shown[0]])
    figure, axes = drawing.canvas(
        len(shown), columns, figsize=(columns * 0.9, len(shown) * 1.15 + 0.3)
    )
    for line, name in zip(axes, shown, strict=True):
        for axis, image in zip(line, images[name], strict=False):
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axis in line:
            axis.axis("off")
        label = line[0].text(
            0, 1.06, titles[name] + words(name), transform=line[0].transAxes, fontsize=8
        )
        label.set_in_layout(False)
    figure.suptitle(title, fontsize=10)
    return figure
