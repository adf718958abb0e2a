"""The one version number (SemVer), read by ``setup.cfg`` and by ``fsd_jax.__version__``."""

__version__ = "0.1.0"
