"""Random bytes into everything that reads bytes from a peer or text from a user. `python -m tests.fuzz` searches for long, with atheris."""
