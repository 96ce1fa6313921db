"""Eucentric: cryo-electron tomography from movies to maps, with one geometry kept true."""

__version__ = "0.1.0"
