"""Proven artifacts in the directories that servers and registries expect. `LAYOUTS` is the table of them."""
