"""Artifacts -> rows, controls, verdict. Child processes run the files; controls show that the check can fail."""
