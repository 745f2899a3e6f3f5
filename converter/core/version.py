"""The version of cnnexport, which both distributions read; a module of its own, so that reading it loads nothing."""

__version__ = "0.1.0"
