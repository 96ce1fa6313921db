"""Sizes for which FFTs are fast."""

from functools import lru_cache

from eucentric.errors import InputError


@lru_cache(maxsize=4096)
def good_size(n: int) -> int:
    """Smallest even 2^a 3^b 5^c that is at least `n` (measured fastest for the FFTs used here)."""
    if n < 1:
        raise InputError(f"A size of {n} was asked for; expected at least 1.")
    best = 1
    while best < n:
        best *= 2
    best = max(best, 2)
    five = 1
    while five <= best:
        three = five
        while three <= best:
            size = 2 * three
            while size < n:
                size *= 2
            best = min(best, size)
            three *= 3
        five *= 5
    return best
