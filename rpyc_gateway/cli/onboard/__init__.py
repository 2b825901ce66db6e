"""What `rpyc-gw device` does on a board: written once, for a board at a port of this machine and for one that is a node."""
