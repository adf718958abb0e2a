"""One picture file as an array in [0, 1]: orientation, transparency, depth, size."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _checks

FITS = ("crop", "pad")
DEEP = 65535
"""White of a 16-bit picture, and of a 32-bit one: Pillow opens some 16-bit files as 32-bit."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pictures are to come out.

    Attributes:
        size: height and width.
        channels: 3 for colour, 1 for grey.
        fit: one of `FITS`.
        background: red, green and blue, 0 to 255.
    """

    size: tuple[int, int]
    channels: int
    fit: str
    background: tuple[int, int, int]

    @classmethod
    def checked(cls, size: Any, channels: Any, fit: Any, background: Any) -> "Look":
        """A look from the arguments of `folder`."""
        _pillow("Image")
        if isinstance(size, (tuple, list, np.ndarray)) and np.ndim(size) == 1 and len(size) == 2:
            height, width = (_checks.dimension("size", side) for side in size)
        elif isinstance(size, (tuple, list)):
            raise ValueError(f"size must be a number or (height, width), got {size!r}")
        else:
            height = width = _checks.dimension("size", size)
        channels = _checks.dimension("channels", channels)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}")
        _checks.choice("fit", fit, FITS)
        return cls(size=(height, width), channels=channels, fit=fit, background=_rgb(background))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture."""
        return (*self.size, self.channels)


def _rgb(background: Any) -> tuple[int, int, int]:
    if isinstance(background, str):
        try:
            numbers = _pillow("ImageColor").getrgb(background)
        except ValueError:
            numbers = ()
    else:
        numbers = tuple(background) if isinstance(background, (tuple, list, np.ndarray)) else ()
    if len(numbers) != 3:
        raise ValueError(
            "background must be a colour such as 'white', '#ffffff' or (255, 255, 255), got "
            f"{_checks.named(background)}"
        )
    checked = [_checks.dimension("background", n, low=0, high=255) for n in numbers]
    return checked[0], checked[1], checked[2]


def _pillow(module: str) -> Any:
    try:
        from PIL import Image, ImageColor, ImageOps
    except ImportError as error:
        raise ImportError(
            f"reading images needs {error.name}: pip install 'fsd-jax[image]'", name=error.name
        ) from None
    return {"Image": Image, "ImageColor": ImageColor, "ImageOps": ImageOps}[module]


def sha256(path: Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoded(path: Path, content: str, look: Look) -> np.ndarray:
    """A picture ``(height, width, channels)``: uint8, or float32 in [0, 1] if it has more depth.

    Args:
        path: the file.
        content: its sha256 when it was listed.
        look: how it is to come out.

    Raises:
        Exception: whatever Pillow and its plugins make of a broken file.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != content:
        raise ValueError("it changed while it was read")
    image = _pillow("Image")
    try:
        opened = image.open(io.BytesIO(data))
    except image.UnidentifiedImageError:
        raise ValueError("Pillow does not know its format, or it is damaged") from None
    with opened:
        picture = _flat(_pillow("ImageOps").exif_transpose(opened), look)
    return _fitted(picture, look)


def _flat(picture: Any, look: Look) -> Any:
    """Without transparency, as Pillow's modes L, RGB or, for deep ones, F with white at 1."""
    image = _pillow("Image")
    if picture.mode == "F" or picture.mode.startswith("I"):
        return image.fromarray(_deep(picture, look))
    if picture.has_transparency_data:
        if picture.mode == "La":
            picture = picture.convert("LA")
        over = picture.convert("RGBA")
        under = image.new("RGBA", over.size, (*look.background, 255))
        picture = image.alpha_composite(under, over)
    return picture.convert("RGB" if look.channels == 3 else "L")


def _deep(picture: Any, look: Look) -> np.ndarray:
    """Float32 in [0, 1] of a grey picture of 16 or 32 bits.

    Float pictures are as they are. Integers of 16 bits have white at 65535; those of 32 bits too,
    because their mode is also that of some 16-bit files and no other range is stated anywhere.
    """
    values = np.asarray(picture)
    grey = values.astype(np.float32)
    most = 1 if picture.mode == "F" else DEEP
    if not np.all((values >= 0) & (values <= most)):
        raise ValueError(
            f"its values go from {values.min():g} to {values.max():g}, and a picture of mode "
            f"{picture.mode} has white at {most} and black at 0; rescale it"
        )
    grey /= most
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int) and picture.mode != "F":
        grey[values == hidden] = _grey(look)
    return grey


def _grey(look: Look) -> float:
    """The background's brightness, as Pillow turns colours into greys."""
    dot = _pillow("Image").new("RGB", (1, 1), look.background).convert("L")
    return float(np.asarray(dot)[0, 0]) / 255


def _fitted(picture: Any, look: Look) -> np.ndarray:
    """Cropped to the middle of the wanted shape, or padded to it, and resized."""
    height, width = look.size
    smooth = _pillow("Image").Resampling.LANCZOS
    if look.fit == "crop":
        inner = _pillow("ImageOps").fit(picture, (width, height), smooth)
    else:
        scale = min(width / picture.width, height / picture.height)
        sides = [max(1, round(side * scale)) for side in picture.size]
        inner = picture.resize((min(sides[0], width), min(sides[1], height)), smooth)
    values = np.asarray(inner)
    deep = values.dtype != np.uint8
    if deep:
        # Resizing swings beyond black and white at sharp edges; 8-bit pictures are cut there, too.
        values = np.clip(values, 0, 1)
    values = values.reshape(*values.shape[:2], -1)
    if look.channels == 3:
        background = np.array(look.background) / (255 if deep else 1)
    else:
        background = np.array([_grey(look) if deep else round(255 * _grey(look))])
    whole = np.empty(look.shape, np.float32 if deep else np.uint8)
    whole[:] = background
    top, left = (height - values.shape[0]) // 2, (width - values.shape[1]) // 2
    whole[top : top + values.shape[0], left : left + values.shape[1]] = values
    return whole
