"""Drawn pictures: cartoon faces and critters, each a function of (style, role, seed, index).

Also a script, which `fsd_jax.image._draw` starts in processes of its own: the renderer holds the
interpreter's lock, so threads would take turns. It imports no part of the library, because a
worker that had to load JAX would take longer to start than to draw a hundred pictures.
"""

import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import python_avatars as avatars
import resvg_py
from dicebear import Avatar, Style
from PIL import Image

ROLES = ("source", "target")
ALMOST_BALD = ("NONE", "BUZZCUT", "SIDES")
HAIR = tuple(hair.name for hair in avatars.HairType)
DARK = (0.05, 0.18)
"""Brightness of a dark critter; the pale ones keep the style's own pastel colours."""


def draw(style: str, role: str, seed: int, index: int, size: int) -> tuple[int, np.ndarray]:
    """Label and ``(size, size, 3)`` uint8 pixels of one picture."""
    rng = np.random.default_rng((seed, ROLES.index(role), index))
    label, svg = STYLES[style](rng, role)
    return label, _pixels(svg, size)


def _face(rng: np.random.Generator, role: str) -> tuple[int, str]:
    """A face; the label is the place of its hairstyle in `HAIR`."""

    def pick(kind: Any, plain: float = 0.0) -> Any:
        """Any part, but with probability `plain` none."""
        if rng.random() < plain:
            return kind.NONE
        return list(kind)[rng.integers(len(kind))]

    haired = [hair for hair in avatars.HairType if hair.name not in ALMOST_BALD]
    hair = haired[rng.integers(len(haired))] if role == "source" else avatars.HairType.NONE
    face = avatars.Avatar(
        style=avatars.AvatarStyle.TRANSPARENT,
        top=hair,
        eyebrows=pick(avatars.EyebrowType),
        eyes=pick(avatars.EyeType),
        nose=pick(avatars.NoseType),
        mouth=pick(avatars.MouthType),
        facial_hair=pick(avatars.FacialHairType, plain=0.7),
        skin_color=pick(avatars.SkinColor),
        hair_color=pick(avatars.HairColor),
        facial_hair_color=pick(avatars.HairColor),
        accessory=pick(avatars.AccessoryType, plain=0.7),
        clothing=pick(avatars.ClothingType),
        clothing_color=pick(avatars.ClothingColor),
        shirt_graphic=pick(avatars.ClothingGraphic),
    )
    return HAIR.index(hair.name), face.render()


def _critter(rng: np.random.Generator, role: str) -> tuple[int, str]:
    """A critter; the label is the role's number."""
    if role == "source":
        pastel = _critters().colors()["body"].values()
        body = _channels(pastel[rng.integers(len(pastel))]) + rng.normal(0, 6, 3)
    else:
        body = 255 * rng.uniform(*DARK) * rng.uniform(0.7, 1.3, 3)
    color = "#" + "".join(f"{round(value):02x}" for value in np.clip(body, 0, 255))
    options = {"seed": str(rng.integers(2**62)), "bodyColor": [color]}
    return ROLES.index(role), Avatar(_critters(), options).to_string()


@cache
def _critters() -> Style:
    text = files("dicebear_styles").joinpath("critters.json").read_text("utf-8")
    return Style(json.loads(text))


def _channels(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], float)


STYLES: dict[str, Callable[[np.random.Generator, str], tuple[int, str]]] = {
    "avatars": _face,
    "critters": _critter,
}


def _pixels(svg: str, size: int) -> np.ndarray:
    """The picture in the middle of a white square."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg, height=size, background="#ffffff", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as opened:
        picture = opened.convert("RGB")
    square = Image.new("RGB", (size, size), "#ffffff")
    square.paste(picture, ((size - picture.width) // 2, 0))
    return np.asarray(square)


def main(arguments: Sequence[str]) -> None:
    """Write label and pixels of every picture of a job (JSON) to standard output."""
    job = json.loads(arguments[0])
    for index in job.pop("indices"):
        label, pixels = draw(index=index, **job)
        sys.stdout.buffer.write(bytes([label]) + pixels.tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
