"""The miniature models: their architectures, the scripts that trained them, their weights."""
