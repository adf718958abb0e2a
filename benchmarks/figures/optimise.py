"""Time of each rival to each gap, beside the closed form."""

from pathlib import Path

from benchmarks.figures import canvas, store
from benchmarks.records import Record, select


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One panel a problem, gap against milliseconds."""
    timed = select(rows, metric="time_to_gap")
    problems = list(dict.fromkeys((r["D"], r["n_ta"]) for r in timed))
    if not problems:
        return []
    sizes = list(dict.fromkeys(ambient for ambient, _ in problems))
    columns = max(sum(ambient == size for ambient, _ in problems) for size in sizes)
    figure, axes = canvas(len(sizes), columns, figsize=(5.2 * columns, 3.8 * len(sizes)))
    for line, ambient in zip(axes, sizes, strict=True):
        for axis, n in zip(line, [n for size, n in problems if size == ambient], strict=False):
            own = select(timed, D=ambient, n_ta=n)
            for method, marker in zip(
                dict.fromkeys(r["method"] for r in own), "*os^vDPX", strict=False
            ):
                points = [r for r in select(own, method=method) if r["value"] is not None]
                if method == "closed form":
                    axis.axvline(1e3 * points[0]["value"], color="black", label=method)
                else:
                    axis.plot(
                        [1e3 * r["value"] for r in points],
                        [r["tolerance"] for r in points],
                        marker=marker,
                        mfc="none",
                        label=method,
                    )
            axis.set(
                xscale="log",
                yscale="log",
                xlabel="milliseconds, compiled",
                ylabel="relative loss gap",
                title=f"D = {ambient}, $n_{{ta}}$ = {n}",
            )
    axes[0, 0].legend(fontsize=7)
    return [store(figure, folder / "optimise.png")]
