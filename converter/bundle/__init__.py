"""The artifact directory: its files, how they are written in one step, and how they are read as untrusted input."""

from converter.bundle.directory import Staging, locate, refuse_other_source, stage
from converter.bundle.golden import read_golden, write_golden
from converter.bundle.manifest import Manifest, check_hashes, read_manifest, write_manifest

__all__ = [
    "Manifest",
    "Staging",
    "check_hashes",
    "locate",
    "read_golden",
    "read_manifest",
    "refuse_other_source",
    "stage",
    "write_golden",
    "write_manifest",
]
