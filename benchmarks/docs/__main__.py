"""The command line: ``python -m benchmarks.docs``, and ``... pictures`` to draw as well."""

import sys

from benchmarks.docs import pictures
from benchmarks.docs.filling import PAGES, ROOT, filled, kept
from fsd_jax._files import write_text

if __name__ == "__main__":
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8")))
    if sys.argv[1:] == ["pictures"]:
        pictures.write(kept()["gain"], ROOT / "docs" / "_static")
