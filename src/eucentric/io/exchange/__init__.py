"""Geometry and contrast transfer of tilt series in the files of other programs, both ways: one module a program."""
