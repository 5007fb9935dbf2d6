"""One module a kind of model: what it is, what it is trained on, and by which loss."""
