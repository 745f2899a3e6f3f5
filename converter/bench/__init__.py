"""How fast files are: load, first inference, latency, throughput, memory and size of every artifact in every runtime.

`subjects` says what is measured, `child` measures in a process of its own, `measure` interleaves the processes, and
`figures` turns times into intervals and verdicts.
"""
