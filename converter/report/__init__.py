"""Output of a Report: table, JSON, HTML page, JUnit XML, GitHub annotations; and comparison with an earlier report."""
