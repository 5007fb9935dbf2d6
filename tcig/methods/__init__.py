"""Methods, which generate images of layouts, and the rows of the table."""
