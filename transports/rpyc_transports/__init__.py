"""The built-in transports, found by their entry points like anybody's."""
