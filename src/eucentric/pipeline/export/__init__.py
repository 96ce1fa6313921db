"""A project as folders that other programs open: one module a program."""
