"""Shared by all steps: frozen data, errors, text, JSON, distances. Imports only the standard library and numpy."""
