"""A report as a figure and as a page."""

import html
import io
from typing import Any

from fsd_jax.fewshot.report import Comparison, Report

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; margin: 0 auto;
  padding: 1.2rem; max-width: 60rem; }
.verdict { font-size: 1.15rem; border-left: 5px solid #0b4f8a; padding: .3rem .9rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; }
svg { max-width: 100%; height: auto; }"""


def drawn(report: Report) -> Any:
    """Losses with standard errors, and the curve if there is one."""
    from matplotlib.figure import Figure

    panels = 2 if report.curve else 1
    figure = Figure(figsize=(6.0 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    rows = [row for row in _rows(report)[::-1] if _finite(row.loss)]
    places = list(range(len(rows)))
    errors = [row.loss_stderr if _finite(row.loss_stderr) else 0.0 for row in rows]
    axes[0].errorbar([row.loss for row in rows], places, xerr=errors, fmt="o", capsize=3)
    axes[0].set_yticks(places, [row.name for row in rows])
    axes[0].set_xlabel(f"{report.evaluation} loss, 1 s.e.")
    axes[0].margins(y=0.2)
    if report.curve:
        curve = sorted(report.curve, key=lambda point: point.n)
        n, loss = [point.n for point in curve], [point.loss for point in curve]
        down = [point.loss - point.low for point in curve]
        up = [point.high - point.loss for point in curve]
        axes[1].errorbar(n, loss, yerr=[down, up], fmt="s--", capsize=3)
        axes[1].set_xscale("log")
        labels = [f"{point.n}*" if point.extrapolated else f"{point.n}" for point in curve]
        axes[1].set_xticks(n, labels)
        axes[1].minorticks_off()
        axes[1].set_xlabel("target samples (* extrapolated)")
        axes[1].set_ylabel("expected loss, 90%")
    return figure


def page(report: Report) -> str:
    """The page; the figure is in it where Matplotlib is installed."""
    body = [f'<p class="verdict">{html.escape(report.verdict)}</p>', _table(report)]
    body += [f"<p>Note: {html.escape(note)}</p>" for note in report.notes]
    if report.duplicates or report.duplicates.source_compared:
        body.append(f"<p>Duplicates: {html.escape(str(report.duplicates))}</p>")
    body += [f"<p>{html.escape(str(point))}</p>" for point in report.curve]
    try:
        body.append(_svg(drawn(report)))
    except ImportError:
        body.append("<p>With Matplotlib installed there is a figure here.</p>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Report</title>\n'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _rows(report: Report) -> list[Comparison]:
    return [report.model, report.source, report.target_only, *report.rivals]


def _table(report: Report) -> str:
    lines = []
    for row in _rows(report):
        cells = (
            html.escape(row.name),
            f"{row.loss:.6g} &plusmn; {row.loss_stderr:.2g}",
            f"{row.difference:.4g}",
            f"{row.low:.4g} to {row.high:.4g}",
        )
        lines.append(f"<tr><td>{'</td><td>'.join(cells)}</td></tr>")
    head = "<tr><th>method</th><th>loss</th><th>minus the model's</th><th>90% limits</th></tr>"
    return (
        f"<p>Denoising loss, lower is better; {html.escape(report.evaluation)}, "
        f"{report.samples} samples in {report.units} groups.</p>"
        f"<table>{head}{''.join(lines)}</table>"
    )


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _finite(value: float) -> bool:
    return value - value == 0
