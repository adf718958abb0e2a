"""The answer as one page: verdict first, then pictures, losses, copies, choices."""

import base64
import html
import io
from typing import Any

import numpy as np

from fsd_jax.command._read import Sets

SHOWN = 12
STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; margin: 0 auto;
  padding: 1.2rem; max-width: 60rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { font-size: 1.15rem; border-left: 5px solid #0b4f8a; padding: .3rem .9rem; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; } figure { margin: 0; text-align: center; }
figcaption { font-size: .75rem; color: #5a5a5a; }
img { width: 96px; image-rendering: pixelated; border: 1px solid #ddd; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; }
.faint { color: #5a5a5a; font-size: .85rem; }"""
NAMES = {"model": "adapted", "source": "source", "target_only": "target alone"}


def png(picture: np.ndarray) -> bytes:
    """A picture ``(H, W, C)`` in [0, 1] as a PNG file."""
    from PIL import Image

    pixels = np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def page(answer: dict[str, Any], sets: Sets, new: np.ndarray, audit: Any) -> str:
    """The page; nothing is loaded from elsewhere."""
    body = [
        "<h1>A few-shot diffusion model, in closed form</h1>",
        f'<p class="verdict">{_text(answer["verdict"])}</p>',
    ]
    body += [f"<p>Note: {_text(note)}</p>" for note in answer["notes"]]
    if answer["skipped"]:
        body.append(f"<p>Files that could not be read: {_text(', '.join(answer['skipped']))}</p>")
    if sets.pictures:
        body += ["<h2>The target</h2>", _pictures(sets.target[:SHOWN])]
        body += ["<h2>New samples</h2>", _pictures(new[:SHOWN])]
        if audit is not None:
            body += ["<h2>Each beside its nearest target picture</h2>", _beside(sets, new, audit)]
    body += ["<h2>Losses</h2>", _losses(answer)]
    copies = answer["audit"]["verdict"] if answer["audit"] else "Not judged: no held-out pictures."
    body += ["<h2>Did it copy?</h2>", f"<p>{_text(copies)}</p>"]
    body += ["<h2>What was chosen</h2>", _choices(answer["choices"])]
    sizes = ", ".join(f"{count} {name}" for name, count in answer["sizes"].items())
    made = answer["made"]
    body.append(
        f'<p class="faint">{_text(sizes)} samples of shape {_text(answer["shape"])}; fsd_jax '
        f"{_text(made['versions']['fsd-jax'])}, jax {_text(made['versions']['jax'])}, "
        f"{_text(made['device'])}.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fsd_jax: an answer</title>\n<style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(str(value))


def _picture(picture: np.ndarray, words: str = "") -> str:
    data = base64.b64encode(png(picture)).decode()
    caption = f"<figcaption>{_text(words)}</figcaption>" if words else ""
    return f'<figure><img alt="" src="data:image/png;base64,{data}">{caption}</figure>'


def _pictures(pictures: np.ndarray) -> str:
    return f'<div class="row">{"".join(_picture(p) for p in pictures)}</div>'


def _beside(sets: Sets, new: np.ndarray, audit: Any) -> str:
    """The samples that are nearest to a target picture, with that one."""
    pairs = []
    for i in np.argsort(audit.distances)[: SHOWN // 2]:
        pairs.append(_picture(new[i], f"distance {audit.distances[i]:.3g}"))
        pairs.append(_picture(sets.target[audit.nearest[i]], "nearest target"))
    return f'<div class="row">{"".join(pairs)}</div>'


def _losses(answer: dict[str, Any]) -> str:
    lines = []
    for key, row in answer["losses"].items():
        cells = [_text(NAMES[key]), _text(row["name"])]
        for name in ("loss", "difference"):
            cells.append(f"{_number(row[name])} &plusmn; {_number(row[name + '_stderr'], 2)}")
        lines.append(f"<tr><td>{'</td><td>'.join(cells)}</td></tr>")
    head = "<tr><th></th><th>method</th><th>loss</th><th>minus the adapted one</th></tr>"
    by = "held-out samples" if answer["evaluation"] == "held-out" else "leaving one out"
    return (
        f"<p>Denoising loss, lower is better, by {by}, with standard errors.</p>"
        f"<table>{head}{''.join(lines)}</table>"
    )


def _choices(choices: dict[str, Any]) -> str:
    lines = []
    for name, value in choices.items():
        shown = _number(value) if isinstance(value, float) else value
        if not isinstance(value, list | dict):
            lines.append(
                f"<tr><td>{_text(name.replace('_', ' '))}</td><td>{_text(shown)}</td></tr>"
            )
    return f"<table>{''.join(lines)}</table>"


def _number(value: float | None, digits: int = 4) -> str:
    return "unknown" if value is None else f"{value:.{digits}g}"
