"""The whole way in one command, on made-up scans or on the user's."""
