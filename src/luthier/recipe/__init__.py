"""The typed recipe: `schema` (what may be written), `load` (YAML, overrides, errors that teach). Imports no torch."""
