"""What an artifact is made of, read from the file: inputs, outputs, operators, weights, cost, metadata.

`describe.describe(path)` reads any artifact; `difference` compares two.
"""
