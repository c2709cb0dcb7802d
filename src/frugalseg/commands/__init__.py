"""The table of commands, and the commands that join several packages."""
