"""Finds what is wrong with files, projects and machines: each finding with its evidence, consequence and remedy."""
