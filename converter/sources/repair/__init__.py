"""Configurations of older Keras versions made readable for Keras 3. `repair` does all that needs no Keras; the other
modules handle one kind of difference each, and `arguments` compares with the installed Keras afterwards.
"""
