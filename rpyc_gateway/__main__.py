"""`python -m rpyc_gateway` is `rpyc-gw`."""

from rpyc_gateway.cli import main

if __name__ == "__main__":
    main(prog_name="rpyc-gw")
