"""Try the installed package: CI runs this in an environment of its own, outside the checkout."""

from importlib.metadata import version
from pathlib import Path

import fsd_jax

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    where = Path(fsd_jax.__file__).resolve()
    if where.is_relative_to(CHECKOUT):
        raise SystemExit(f"fsd_jax was imported from the checkout, not from the wheel: {where}")
    if fsd_jax.__version__ != version("fsd-jax"):
        raise SystemExit(
            f"fsd_jax.__version__ is {fsd_jax.__version__}, the wheel says {version('fsd-jax')}"
        )
    print(f"fsd_jax {fsd_jax.__version__} from {where.parent}")


if __name__ == "__main__":
    main()
