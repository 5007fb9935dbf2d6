"""The networks: where their weights come from and what they compute."""
