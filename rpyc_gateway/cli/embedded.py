"""What `rpyc-gw eval` and `exec` run on a board, or under a bare Python. It is sent there as text; MicroPython, CircuitPython and CPython run it."""


def _gateway_run(source, mode, out):
    def show(*values, sep=" ", end="\n", file=None):
        out(sep.join([str(value) for value in values]) + end)

    namespace = {"__name__": "__main__", "print": show}
    if mode == "eval":
        show(eval(source, namespace))
    else:
        try:
            exec(source, namespace)
        except SystemExit as ending:
            return ending.args[0] if ending.args else 0
    return 0
