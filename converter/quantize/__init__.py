"""Finished float32 files -> the same files in float16 and int8, each with what its proof needs.

`calibration` reads samples, `observe` runs the float files on them, `ranges` turns what was seen into scales, `plan`
decides for the operators of either format, and the modules of a format write its files. Graphs are edited as they are
in the file; no model is traced or converted again.
"""
