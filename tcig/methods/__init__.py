"""How to draw: one method a file."""
