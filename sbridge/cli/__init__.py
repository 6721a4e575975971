"""The command line."""

from sbridge.cli.main import main

__all__ = ["main"]
