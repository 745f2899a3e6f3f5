"""Report -> what people and programs read: table and JSON, HTML page, JUnit, annotations; an earlier one as a bound."""
