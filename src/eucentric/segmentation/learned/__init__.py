"""Segmentation by a network that was shown what to find."""
