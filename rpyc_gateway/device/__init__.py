"""Embedded Python devices: what runs on them, and what speaks for them."""
