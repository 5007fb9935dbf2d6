"""Runs: a frozen spec, an atomic store, the loop that fills it."""
