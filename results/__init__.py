"""Committed tables, each with the command that made it (README.md), and the published figures."""
