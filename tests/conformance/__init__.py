"""What a program does to objects, done to local ones and to proxies of far ones: it must not be able to tell the difference.

A *row* is one such thing: a setup, executed where the objects live, and a use, run here. `chapters/` holds the rows, one module for each
part of the language; `test_rows.py` runs each on proxies 0, 1 and 3 relays away; `python -m tests.conformance` counts them, next to RPyC.
"""
