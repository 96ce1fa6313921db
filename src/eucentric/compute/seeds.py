"""Seeded random numbers."""

import torch


def seeded_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`: same seed and device, same numbers."""
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    return generator
