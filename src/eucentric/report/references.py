"""What the methods text cites, and the same as BibTeX."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_OTHERS = "others"
_ESCAPED = {
    "Å": r"{\AA}",
    "å": r"{\aa}",
    "ö": r"{\"o}",
    "ç": r"{\c{c}}",
    "Ç": r"{\c{C}}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An article, or a part of a book."""

    authors: tuple[str, ...]
    """Family names; `others` stands for those that are not named."""
    title: str
    year: int
    journal: str = ""
    volume: str = ""
    pages: str = ""
    book: str = ""
    """Instead of a journal."""
    edition: str = ""
    chapter: str = ""
    doi: str = ""

    @property
    def text(self) -> str:
        """In one line, without its title."""
        if self.book:
            edition = f", {self.edition} ed." if self.edition else ""
            place = f"in {self.book}{edition} ({self.year}), {f'ch. {self.chapter}' if self.chapter else self.pages}"
        else:
            place = f"{self.journal} {self.volume}:{self.pages} ({self.year})"
        return f"{self._names}, {place}" + (f", doi:{self.doi}" if self.doi else "")

    @property
    def _names(self) -> str:
        *most, last = self.authors
        if last == _OTHERS:
            return f"{', '.join(most)} et al."
        return f"{', '.join(most)} & {last}" if most else last

    @property
    def bibtex(self) -> str:
        """As an entry, keyed by the first author and the year."""
        fields = {
            "author": " and ".join(f"{{{name}}}" if " " in name else name for name in self.authors),
            "title": f"{{{self.title}}}",
            "journal": self.journal,
            "booktitle": self.book,
            "volume": self.volume,
            "pages": self.pages.replace("-", "--"),
            "edition": self.edition,
            "chapter": self.chapter,
            "year": str(self.year),
            "doi": self.doi,
        }
        return _entry("incollection" if self.book else "article", self.key, fields)

    @property
    def key(self) -> str:
        """First author, in letters without marks, and year."""
        plain = unicodedata.normalize("NFKD", re.sub(r"[ -]", "", self.authors[0])).encode("ascii", "ignore").decode()
        return f"{plain}{self.year}"


REFERENCES: Mapping[str, Reference] = {
    "rubinstein": Reference(
        authors=("Rubinstein", "Brubaker"),
        title="Alignment of cryo-EM movies of individual particles by optimization of image translations",
        journal="J. Struct. Biol.",
        volume="192",
        pages="188",
        year=2015,
        doi="10.1016/j.jsb.2015.08.007",
    ),
    "zivanov_motion": Reference(
        authors=("Zivanov", "Nakane", "Scheres"),
        title="A Bayesian approach to beam-induced motion correction in cryo-EM single-particle analysis",
        journal="IUCrJ",
        volume="6",
        pages="5",
        year=2019,
        doi="10.1107/S205225251801463X",
    ),
    "motioncor": Reference(
        authors=("Zheng", "others"),
        title="MotionCor2: anisotropic correction of beam-induced motion for improved cryo-electron microscopy",
        journal="Nat. Methods",
        volume="14",
        pages="331",
        year=2017,
        doi="10.1038/nmeth.4193",
    ),
    "guckenberger": Reference(
        authors=("Guckenberger",),
        title="Determination of a common origin in the micrographs of tilt series in three-dimensional electron microscopy",
        journal="Ultramicroscopy",
        volume="9",
        pages="167",
        year=1982,
    ),
    "winkler": Reference(
        authors=("Winkler", "Taylor"),
        title=(
            "Accurate marker-free alignment with simultaneous geometry determination and "
            "reconstruction of tilt series in electron tomography"
        ),
        journal="Ultramicroscopy",
        volume="106",
        pages="240",
        year=2006,
        doi="10.1016/j.ultramic.2005.07.007",
    ),
    "aretomo": Reference(
        authors=("Zheng", "others"),
        title=(
            "AreTomo: An integrated software package for automated marker-free, motion-corrected "
            "cryo-electron tomographic alignment and reconstruction"
        ),
        journal="J. Struct. Biol. X",
        volume="6",
        pages="100068",
        year=2022,
        doi="10.1016/j.yjsbx.2022.100068",
    ),
    "han": Reference(
        authors=("Han", "others"),
        title="A novel fully automatic scheme for fiducial marker-based alignment in electron tomography",
        journal="J. Struct. Biol.",
        volume="192",
        pages="403",
        year=2015,
        doi="10.1016/j.jsb.2015.09.015",
    ),
    "mastronarde": Reference(
        authors=("Mastronarde", "Held"),
        title="Automated tilt series alignment and tomographic reconstruction in IMOD",
        journal="J. Struct. Biol.",
        volume="197",
        pages="102",
        year=2017,
        doi="10.1016/j.jsb.2016.07.011",
    ),
    "fernandez": Reference(
        authors=("Fernandez", "Li", "Bharat", "Agard"),
        title="Cryo-tomography tilt-series alignment with consideration of the beam-induced sample motion",
        journal="J. Struct. Biol.",
        volume="202",
        pages="200",
        year=2018,
        doi="10.1016/j.jsb.2018.02.001",
    ),
    "scott": Reference(
        authors=("Scott", "others"),
        title="Electron tomography at 2.4-ångström resolution",
        journal="Nature",
        volume="483",
        pages="444",
        year=2012,
        doi="10.1038/nature10934",
    ),
    "rohou": Reference(
        authors=("Rohou", "Grigorieff"),
        title="CTFFIND4: Fast and accurate defocus estimation from electron micrographs",
        journal="J. Struct. Biol.",
        volume="192",
        pages="216",
        year=2015,
        doi="10.1016/j.jsb.2015.08.008",
    ),
    "elferich": Reference(
        authors=("Elferich", "Kong", "Zottig", "Grigorieff"),
        title="CTFFIND5 provides improved insight into quality, tilt, and thickness of TEM samples",
        journal="eLife",
        volume="13",
        pages="RP97227",
        year=2024,
        doi="10.7554/eLife.97227",
    ),
    "tegunov": Reference(
        authors=("Tegunov", "Cramer"),
        title="Real-time cryo-electron microscopy data preprocessing with Warp",
        journal="Nat. Methods",
        volume="16",
        pages="1146",
        year=2019,
        doi="10.1038/s41592-019-0580-y",
    ),
    "tegunov_m": Reference(
        authors=("Tegunov", "Xue", "Dienemann", "Cramer", "Mahamid"),
        title="Multi-particle cryo-EM refinement with M visualizes ribosome-antibiotic complex at 3.5 Å in cells",
        journal="Nat. Methods",
        volume="18",
        pages="186",
        year=2021,
        doi="10.1038/s41592-020-01054-7",
    ),
    "zivanov_tomography": Reference(
        authors=("Zivanov", "others"),
        title="A Bayesian approach to single-particle electron cryo-tomography in RELION-4.0",
        journal="eLife",
        volume="11",
        pages="e83724",
        year=2022,
        doi="10.7554/eLife.83724",
    ),
    "himes": Reference(
        authors=("Himes", "Zhang"),
        title="emClarity: software for high-resolution cryo-electron tomography and subtomogram averaging",
        journal="Nat. Methods",
        volume="15",
        pages="955",
        year=2018,
        doi="10.1038/s41592-018-0167-z",
    ),
    "radermacher": Reference(
        authors=("Radermacher",),
        title="Weighted Back-projection Methods",
        book="Electron Tomography",
        edition="2nd",
        chapter="8",
        year=2006,
        doi="10.1007/978-0-387-69008-7_9",
    ),
    "harauz": Reference(
        authors=("Harauz", "van Heel"),
        title="Exact filters for general geometry three dimensional reconstruction",
        journal="Optik",
        volume="73",
        pages="146",
        year=1986,
    ),
    "gilbert": Reference(
        authors=("Gilbert",),
        title="Iterative methods for the three-dimensional reconstruction of an object from projections",
        journal="J. Theor. Biol.",
        volume="36",
        pages="105",
        year=1972,
        doi="10.1016/0022-5193(72)90180-4",
    ),
    "andersen": Reference(
        authors=("Andersen", "Kak"),
        title="Simultaneous Algebraic Reconstruction Technique (SART): A superior implementation of the ART algorithm",
        journal="Ultrason. Imaging",
        volume="6",
        pages="81",
        year=1984,
        doi="10.1016/0161-7346(84)90008-7",
    ),
    "hestenes": Reference(
        authors=("Hestenes", "Stiefel"),
        title="Methods of conjugate gradients for solving linear systems",
        journal="J. Res. Natl. Bur. Stand.",
        volume="49",
        pages="409",
        year=1952,
        doi="10.6028/jres.049.044",
    ),
    "chambolle": Reference(
        authors=("Chambolle", "Pock"),
        title="A first-order primal-dual algorithm for convex problems with applications to imaging",
        journal="J. Math. Imaging Vis.",
        volume="40",
        pages="120",
        year=2011,
        doi="10.1007/s10851-010-0251-1",
    ),
    "pock": Reference(
        authors=("Pock", "Chambolle"),
        title="Diagonal preconditioning for first order primal-dual algorithms in convex optimization",
        book="IEEE International Conference on Computer Vision",
        pages="1762",
        year=2011,
        doi="10.1109/ICCV.2011.6126441",
    ),
    "xiong": Reference(
        authors=("Xiong", "others"),
        title="CTF determination and correction for low dose tomographic tilt series",
        journal="J. Struct. Biol.",
        volume="168",
        pages="378",
        year=2009,
        doi="10.1016/j.jsb.2009.08.016",
    ),
    "jensen": Reference(
        authors=("Jensen", "Kornberg"),
        title="Defocus-gradient corrected back-projection",
        journal="Ultramicroscopy",
        volume="84",
        pages="57",
        year=2000,
        doi="10.1016/S0304-3991(00)00005-X",
    ),
    "turonova": Reference(
        authors=("Turonova", "others"),
        title=(
            "Efficient 3D-CTF correction for cryo-electron tomography using NovaCTF improves "
            "subtomogram averaging resolution to 3.4 Å"
        ),
        journal="J. Struct. Biol.",
        volume="199",
        pages="187",
        year=2017,
        doi="10.1016/j.jsb.2017.07.007",
    ),
    "cicek": Reference(
        authors=("Çiçek", "Abdulkadir", "Lienkamp", "Brox", "Ronneberger"),
        title="3D U-Net: learning dense volumetric segmentation from sparse annotation",
        book="Medical Image Computing and Computer-Assisted Intervention, MICCAI 2016",
        pages="424",
        year=2016,
        doi="10.1007/978-3-319-46723-8_49",
    ),
    "lehtinen": Reference(
        authors=("Lehtinen", "Munkberg", "Hasselgren", "Laine", "Karras", "Aittala", "Aila"),
        title="Noise2Noise: learning image restoration without clean data",
        journal="Proc. Mach. Learn. Res.",
        volume="80",
        pages="2965",
        year=2018,
    ),
    "buchholz": Reference(
        authors=("Buchholz", "Jordan", "Pigino", "Jug"),
        title="Cryo-CARE: content-aware image restoration for cryo-transmission electron microscopy data",
        book="IEEE 16th International Symposium on Biomedical Imaging",
        pages="502",
        year=2019,
        doi="10.1109/ISBI.2019.8759519",
    ),
    "liu": Reference(
        authors=("Liu", "Zhang", "Wang", _OTHERS),
        title="Isotropic reconstruction for electron tomography with deep learning",
        journal="Nat. Commun.",
        volume="13",
        pages="6482",
        year=2022,
        doi="10.1038/s41467-022-33957-8",
    ),
    "wiedemann": Reference(
        authors=("Wiedemann", "Heckel"),
        title="A deep learning method for simultaneous denoising and missing wedge reconstruction in cryogenic electron tomography",
        journal="Nat. Commun.",
        volume="15",
        pages="8255",
        year=2024,
        doi="10.1038/s41467-024-51438-y",
    ),
    "martinez": Reference(
        authors=("Martinez-Sanchez", "Garcia", "Asano", "Lucic", "Fernandez"),
        title="Robust membrane detection based on tensor voting for electron tomography",
        journal="J. Struct. Biol.",
        volume="186",
        pages="49",
        year=2014,
        doi="10.1016/j.jsb.2014.02.015",
    ),
    "tomasi": Reference(
        authors=("Tomasi", "Manduchi"),
        title="Bilateral filtering for gray and color images",
        book="Proceedings of the Sixth International Conference on Computer Vision",
        pages="839",
        year=1998,
        doi="10.1109/ICCV.1998.710815",
    ),
    "frangakis": Reference(
        authors=("Frangakis", "Hegerl"),
        title="Noise reduction in electron tomographic reconstructions using nonlinear anisotropic diffusion",
        journal="J. Struct. Biol.",
        volume="135",
        pages="239",
        year=2001,
        doi="10.1006/jsbi.2001.4406",
    ),
    "buades": Reference(
        authors=("Buades", "Coll", "Morel"),
        title="A review of image denoising algorithms, with a new one",
        journal="Multiscale Model. Simul.",
        volume="4",
        pages="490",
        year=2005,
        doi="10.1137/040616024",
    ),
    "mihcak": Reference(
        authors=("Mihçak", "Kozintsev", "Ramchandran", "Moulin"),
        title="Low-complexity image denoising based on statistical modeling of wavelet coefficients",
        journal="IEEE Signal Process. Lett.",
        volume="6",
        pages="300",
        year=1999,
        doi="10.1109/97.803428",
    ),
    "roseman": Reference(
        authors=("Roseman",),
        title="Particle finding in electron micrographs using a fast local correlation algorithm",
        journal="Ultramicroscopy",
        volume="94",
        pages="225",
        year=2003,
        doi="10.1016/S0304-3991(02)00333-9",
    ),
    "chaillet": Reference(
        authors=("Chaillet", "others"),
        title="Extensive angular sampling enables the sensitive localization of macromolecules in electron tomograms",
        journal="Int. J. Mol. Sci.",
        volume="24",
        pages="13375",
        year=2023,
        doi="10.3390/ijms241713375",
    ),
    "marr": Reference(
        authors=("Marr", "Hildreth"),
        title="Theory of edge detection",
        journal="Proc. R. Soc. B",
        volume="207",
        pages="187",
        year=1980,
        doi="10.1098/rspb.1980.0020",
    ),
    "moebel": Reference(
        authors=("Moebel", "others"),
        title="Deep learning improves macromolecule identification in 3D cellular cryo-electron tomograms",
        journal="Nat. Methods",
        volume="18",
        pages="1386",
        year=2021,
        doi="10.1038/s41592-021-01275-4",
    ),
    "platt": Reference(
        authors=("Platt",),
        title="Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
        book="Advances in Large Margin Classifiers",
        pages="61-74",
        year=1999,
    ),
    "elias": Reference(
        authors=("Elias", "Gygi"),
        title="Target-decoy search strategy for increased confidence in large-scale protein identifications by mass spectrometry",
        journal="Nat. Methods",
        volume="4",
        pages="207",
        year=2007,
        doi="10.1038/nmeth1019",
    ),
    "rickgauer": Reference(
        authors=("Rickgauer", "Grigorieff", "Denk"),
        title="Single-protein detection in crowded molecular environments in cryo-EM images",
        journal="eLife",
        volume="6",
        pages="e25648",
        year=2017,
        doi="10.7554/eLife.25648",
    ),
    "grant": Reference(
        authors=("Grant", "Grigorieff"),
        title="Measuring the optimal exposure for single particle cryo-EM using a 2.6 Å reconstruction of rotavirus VP6",
        journal="eLife",
        volume="4",
        pages="e06980",
        year=2015,
        doi="10.7554/eLife.06980",
    ),
    "burt": Reference(
        authors=("Burt", "others"),
        title="An image processing pipeline for electron cryo-tomography in RELION-5",
        journal="FEBS Open Bio",
        volume="14",
        pages="1788",
        year=2024,
        doi="10.1002/2211-5463.13873",
    ),
    "scheres_averaging": Reference(
        authors=("Scheres", "Melero", "Valle", "Carazo"),
        title="Averaging of electron subtomograms and random conical tilt reconstructions through likelihood optimization",
        journal="Structure",
        volume="17",
        pages="1563",
        year=2009,
        doi="10.1016/j.str.2009.10.009",
    ),
    "scheres_chen": Reference(
        authors=("Scheres", "Chen"),
        title="Prevention of overfitting in cryo-EM structure determination",
        journal="Nat. Methods",
        volume="9",
        pages="853",
        year=2012,
        doi="10.1038/nmeth.2115",
    ),
    "chen_noise": Reference(
        authors=("Chen", "others"),
        title=(
            "High-resolution noise substitution to measure overfitting and validate resolution in 3D structure "
            "determination by single particle electron cryomicroscopy"
        ),
        journal="Ultramicroscopy",
        volume="135",
        pages="24",
        year=2013,
        doi="10.1016/j.ultramic.2013.06.004",
    ),
    "he": Reference(
        authors=("He", "Scheres"),
        title="Helical reconstruction in RELION",
        journal="J. Struct. Biol.",
        volume="198",
        pages="163",
        year=2017,
        doi="10.1016/j.jsb.2017.02.003",
    ),
    "rosenthal": Reference(
        authors=("Rosenthal", "Henderson"),
        title=(
            "Optimal determination of particle orientation, absolute hand, and contrast loss in single-particle "
            "electron cryomicroscopy"
        ),
        journal="J. Mol. Biol.",
        volume="333",
        pages="721",
        year=2003,
        doi="10.1016/j.jmb.2003.07.013",
    ),
    "cardone": Reference(
        authors=("Cardone", "Heymann", "Steven"),
        title="One number does not fit all: mapping local variations in resolution in cryo-EM reconstructions",
        journal="J. Struct. Biol.",
        volume="184",
        pages="226",
        year=2013,
        doi="10.1016/j.jsb.2013.08.002",
    ),
    "punjani": Reference(
        authors=("Punjani", "Rubinstein", "Fleet", "Brubaker"),
        title="cryoSPARC: algorithms for rapid unsupervised cryo-EM structure determination",
        journal="Nat. Methods",
        volume="14",
        pages="290",
        year=2017,
        doi="10.1038/nmeth.4169",
    ),
}


def bibtex(references: Sequence[str], version: str) -> str:
    """BibTeX of the program and of what is cited. No two keys are the same.

    Parameters
    ----------
    references : texts of some of `REFERENCES`, each once
    version : of the product
    """
    entries = [_entry("misc", "eucentric", {"title": "{Eucentric}", "note": f"Version {version}"})]
    used: set[str] = set()
    by_text = {reference.text: reference for reference in REFERENCES.values()}
    for reference in (by_text[text] for text in references):
        key = next(k for letter in ("", *"bcdefghij") if (k := f"{reference.key}{letter}") not in used)
        used.add(key)
        entries.append(reference.bibtex.replace(f"{{{reference.key},", f"{{{key},", 1))
    return "\n".join(entries)


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = []
    for name, value in fields.items():
        shown = value if name == "doi" else "".join(_ESCAPED.get(letter, letter) for letter in value)
        if value:
            lines.append(f"  {name} = {{{shown}}},")
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])
