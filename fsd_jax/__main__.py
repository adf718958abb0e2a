"""``python -m fsd_jax``: see `fsd_jax.command`."""

import sys

if __name__ == "__main__":
    from fsd_jax.command import main

    sys.exit(main())
