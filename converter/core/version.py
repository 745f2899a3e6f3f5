"""The version of cnnexport, which both distributions read. Separate module, so that reading it imports nothing else."""

__version__ = "0.1.0"
