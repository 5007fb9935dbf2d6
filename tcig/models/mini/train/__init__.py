"""Training and evaluation of the miniature models. The wheel leaves this package out."""
