"""The command line: one module per command, their shared options, and the destinations of results.

To add a command, write a module with a click command named `command` and add a line to the table in
`converter.cli.main`.
"""
