"""Membranes without training; see ../README.md."""
