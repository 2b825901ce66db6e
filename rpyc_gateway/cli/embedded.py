"""What `rpyc-gw eval` and `exec` run on a board. It is sent there as text; MicroPython and CircuitPython run it."""


def _gateway_run(source, mode, out):
    def show(*values, sep=" ", end="\n", file=None):
        out(sep.join([str(value) for value in values]) + end)

    namespace = {"__name__": "__main__", "print": show}
    if mode == "eval":
        show(eval(source, namespace))
    else:
        exec(source, namespace)
