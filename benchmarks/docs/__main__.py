"""The command line: ``python -m benchmarks.docs``."""

from benchmarks.docs.filling import PAGES, filled
from fsd_jax._files import write_text

if __name__ == "__main__":
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8")))
