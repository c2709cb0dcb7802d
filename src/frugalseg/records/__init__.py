"""The files that packages hand to each other: each one frozen dataclass with FORMAT, read() and write()."""
