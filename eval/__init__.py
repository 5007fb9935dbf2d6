"""How well: judges, counts, reductions, tables. Reads stored images only, anyone's."""
