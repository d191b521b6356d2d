"""The package's version, read by the build and stored in every cube."""

__version__ = "0.1.0"
