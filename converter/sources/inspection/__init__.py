"""Untrusted model files, inspected before they are loaded: `inspect` is the parent, `child` the process that reads."""
