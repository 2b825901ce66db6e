"""The benchmark: ours next to its peers and to the limits of the machine, in one run (`python -m tests.bench`)."""
