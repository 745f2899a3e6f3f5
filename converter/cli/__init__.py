"""The command line: one module a command, their shared options, and where results go.

To add a command: a module with a click command `command`, and a line in the table of `converter.cli.main`.
"""
