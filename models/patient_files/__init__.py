"""Files of recorded patients: the one place where a file becomes values, for every command that reads one.

`columns` is the table of what a cell may hold, `text` splits CSV into rows, `table` holds the columns of a CSV or
Parquet file, `hourly` and `ecg` make hours and recordings of them, and `report` counts what was read, converted and
refused. The rules are in docs/decisions/0032-one-reader-of-files.md.
"""
