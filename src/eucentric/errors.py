"""Everything that Eucentric raises on purpose. A message says what was given, what was expected and what to do."""


class EucentricError(Exception):
    """Base of every error meant for the user; its text is shown without a traceback."""


class InputError(EucentricError):
    """What the user gave cannot be used: a value, a file, a combination."""


class ShapeError(InputError):
    """An array has the wrong number of dimensions or sizes that do not fit together."""


class FormatError(InputError):
    """A file is not what its name or header claims: truncated, damaged, or of another kind."""


class ProcessingError(EucentricError):
    """The input was acceptable, but no trustworthy result came out of it."""


class BackendError(EucentricError):
    """A device, a worker or the disk failed: no memory, no space, no such GPU."""
