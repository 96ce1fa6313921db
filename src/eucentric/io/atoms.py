"""Atomic models from PDB and mmCIF files. Every atom of the first model is kept, hydrogens and waters too."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.typing import FloatArray, PathLike


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atoms:
    """Atoms of one model."""

    positions: FloatArray
    """(atom, 3), x y z in A, as in the file."""
    atomic_numbers: NDArray[np.int64]
    """(atom,); 0 where the element is unknown."""
    b_factors: FloatArray
    """(atom,), A^2."""
    occupancies: FloatArray
    """(atom,), 0 to 1; alternative positions are all listed, each with its share."""


def read_atoms(path: PathLike) -> Atoms:
    """Positions, elements and B factors of a `.pdb`, `.cif` or `.mmcif` file, also with `.gz`.

    Raises
    ------
    InputError : no such file
    FormatError : unreadable, or no atom in it
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        raw = place.read_bytes()
        text = (gzip.decompress(raw) if place.suffix.lower() == ".gz" else raw).decode("latin-1")
        name = place.name.lower().removesuffix(".gz")
        if name.endswith((".cif", ".mmcif")):
            structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
        else:
            structure = gemmi.read_pdb_string(text)
    except (RuntimeError, ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise FormatError(
            f"`{place}` is not an atomic model that can be read: {error}. Expected PDB or mmCIF."
        ) from error
    atoms = [atom for chain in structure[0] for residue in chain for atom in residue] if len(structure) else []
    if not atoms:
        raise FormatError(f"`{place}` holds no atom. Expected an atomic model in PDB or mmCIF format.")
    return Atoms(
        positions=np.array([(a.pos.x, a.pos.y, a.pos.z) for a in atoms], dtype=np.float64),
        atomic_numbers=np.array([a.element.atomic_number for a in atoms], dtype=np.int64),
        b_factors=np.array([a.b_iso for a in atoms], dtype=np.float64),
        occupancies=np.array([a.occ for a in atoms], dtype=np.float64),
    )
