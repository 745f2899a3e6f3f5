"""Signed artifact directories: the bill of materials and the attestation beside the artifacts, and the signature."""
