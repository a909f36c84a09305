"""Everything an edge agent can be told; `sample.toml` beside this file documents every key."""
