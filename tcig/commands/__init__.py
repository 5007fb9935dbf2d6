"""The subcommands of `tcig`, one a file: arguments from a dataclass, then calls into the house."""
