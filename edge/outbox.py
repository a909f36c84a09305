"""What the edge may never lose, in one SQLite file: sealed readings, what was received, what is on its way."""
