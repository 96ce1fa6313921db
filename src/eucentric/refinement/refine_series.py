"""Sub-tilt refinement of one tilt series: its geometry, deformation, contrast transfer, and the poses of its particles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from eucentric.averaging.particle_images import SeriesImages
from eucentric.refinement.choose_groups import Choice, GroupChooser, KeptGroup
from eucentric.refinement.image_sums import BANDS, ImageModel, ImageSums, Reference, RefinedParticles
from eucentric.refinement.image_views import ImageViews
from eucentric.refinement.normal_equations import FoldedEquations, LocalTerms
from eucentric.refinement.params import GEOMETRY, GroupName, RefineParams
from eucentric.refinement.results import GroupTrial, KeptChange, SeriesMemory, TiltSignal
from eucentric.refinement.unknowns import (
    OPTICS_TERMS,
    AnisotropicMagnification,
    Astigmatism,
    CommonAngles,
    Contrast,
    ImageWarpGrid,
    OpticsTerm,
    PhaseShift,
    SeriesDefocus,
    SeriesState,
    StageAngles,
    TiltContrast,
    TiltDefocus,
    TiltMagnification,
    TiltShifts,
    Unknowns,
    VolumeWarpGrid,
    moved_particles,
)
from eucentric.typing import FloatArray

_CONTRASTS = (0.05, 3.0)
"""Of particles, over that of the reference."""
_STILL = 0.5
"""Part of the certainty asked for at first that a group must still have later, so that none comes and goes."""
_SETTLED = 0.02
"""Part of the first step's gain below which no further step is made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpeciesImages:
    """One species in one series: its images and what they are compared with."""

    name: str
    source: SeriesImages
    references: Sequence[Reference]
    finest_angstrom: float
    resolution_angstrom: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesRefinement:
    """What refinement of a series came to."""

    state: SeriesState
    memory: SeriesMemory
    log_likelihood: tuple[float, ...]
    """Before, and after each step."""
    images: int
    signal: TiltSignal
    optics: dict[str, FoldedEquations]
    """What the particles say of aberrations that series of an optics group share, by name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Linearised:
    """Everything that is known near a state."""

    state: SeriesState
    """With contrasts as the images say."""
    sums: ImageSums
    views: ImageViews
    contrasts: FloatArray
    """(particle,), of all species."""
    log_likelihood: float

    def terms(self) -> LocalTerms:
        return LocalTerms.of(self.sums, self.contrasts[self.sums.particle])

    def only(self, species: Sequence[int]) -> "_Linearised":
        """Images of some species alone."""
        keep = np.isin(self.views.species[self.sums.particle], list(species))
        sums = ImageSums(
            overlap=self.sums.overlap[keep],
            norm=self.sums.norm[keep],
            particle=self.sums.particle[keep],
            tilt=self.sums.tilt[keep],
        )
        return replace(self, sums=sums, views=self.views.select(keep))


class SeriesRefiner:
    """Refines one series against fixed maps of all species."""

    def __init__(self, species: Sequence[SpeciesImages], params: RefineParams, memory: SeriesMemory) -> None:
        """
        Parameters
        ----------
        species : of the same series, on the same pixels
        memory : of earlier rounds
        """
        self._species, self._params = tuple(species), params
        self._kept = {k.family: k for k in memory.kept}
        self._trials = {t.family: t for t in memory.trials}
        self._count = 0
        self._finest = max(min(s.finest_angstrom for s in species), 2.0 * species[0].source.pixel_size_angstrom)

    def refine(self, state: SeriesState) -> SeriesRefinement:
        """Geometry until the images gain no more, then the transfer, then how much each image counts."""
        self._count = sum(len(p) for p in state.particles)
        here = self.linearise(state)
        history = [here.log_likelihood]
        geometry = self._held_out_of(self._geometry(here.state))
        first = 0.0
        for _ in range(self._params.steps):
            here, gained = self._step(here, geometry, self._everyone)
            history.append(here.log_likelihood)
            first = max(first, gained)
            if gained <= _SETTLED * first:
                break
        here = self._rechecked(here, geometry, self._everyone)
        transfer = self._transfer(here.state)
        unknown = self._no_transfer(here.state)
        if unknown:
            self._refuse([*transfer, *([t] for t in self._optics_terms)], unknown)
        elif transfer:
            transfer = self._held_out_of(transfer)
            here, _ = self._step(here, transfer, self._fine)
            here = self._rechecked(here, transfer, self._fine)
        if "weights" in self._params.groups:
            weights = self._held_out_of([[self._weights(here.state)]])
            here, _ = self._step(here, weights, self._everyone)
            here = self._rechecked(here, weights, self._everyone)
        history.append(here.log_likelihood)
        return SeriesRefinement(
            state=here.state,
            memory=SeriesMemory(kept=tuple(self._kept.values()), trials=tuple(self._trials.values())),
            log_likelihood=tuple(history),
            images=len(here.sums.tilt),
            signal=self._signal(here),
            optics=self._optics(here),
        )

    def linearise(self, state: SeriesState) -> _Linearised:
        """Compare all images with their predictions."""
        models = [
            ImageModel(
                s.source.with_geometry(state.series, state.deformation.image, state.deformation.volume),
                s.references,
                s.finest_angstrom,
                bands_angstrom=self._finest,
            )
            for s in self._species
        ]
        others: Tensor | None = None
        if self._params.neighbours:
            others = torch.stack([m.predicted(p) for m, p in zip(models, state.particles, strict=True)]).sum(0)
        parts = [m.sums(p, others) for m, p in zip(models, state.particles, strict=True)]
        particles: list[RefinedParticles] = []
        value = 0.0
        for part, of in zip(parts, state.particles, strict=True):
            overlap, norm = part.contrast_terms
            x = np.bincount(part.particle, overlap, minlength=len(of))
            p = np.bincount(part.particle, norm, minlength=len(of))
            contrast = np.clip(x / np.maximum(p, 1e-12), *_CONTRASTS)
            value += float((0.5 * np.square(np.clip(x, 0.0, None)) / np.maximum(p, 1e-12)).sum())
            particles.append(replace(of, contrasts=np.where(p > 0, contrast, 1.0)))
        state = replace(state, particles=tuple(particles))
        counts = [len(p) for p in particles]
        sums = ImageSums.joined(parts, counts)
        views = ImageViews.build(
            sums,
            np.concatenate([p.positions_angstrom for p in particles]),
            np.repeat(np.arange(len(counts)), counts),
            state.series,
            state.deformation,
        )
        contrasts = np.concatenate([p.contrasts for p in particles])
        return _Linearised(state=state, sums=sums, views=views, contrasts=contrasts, log_likelihood=value)

    def _step(
        self, here: _Linearised, families: Sequence[Sequence[Unknowns]], species: Sequence[int]
    ) -> tuple[_Linearised, float]:
        """Choose groups, change the state, and see whether the images gain; the state as it was where they do not."""
        chooser = self._chooser(here, species)
        before, untried = self._parted(families)
        choice = chooser.choose([self._contrast(), *before], untried)
        for share in (1.0, 0.5):
            there = self.linearise(self._changed(here.state, choice, share))
            gained = there.log_likelihood - here.log_likelihood
            if gained > 0.0:
                self._remember(choice, share)
                return there, gained
        for trial in choice.trials:
            lost = "its images as a whole lost" if trial.accepted else trial.reason
            self._trials[trial.family] = replace(trial, accepted=False, reason=lost)
        return here, 0.0

    def _rechecked(
        self, here: _Linearised, families: Sequence[Sequence[Unknowns]], species: Sequence[int]
    ) -> _Linearised:
        """Ask again what held-out particles gain from the groups that are kept; those that bring nothing are taken back."""
        while True:
            before, _ = self._parted(families)
            by_name = {g.unknowns.name: g for g in before}
            found = self._chooser(here, species).evidence([self._contrast(), *before])
            for name, (gain, sigma) in found.items():
                family = by_name[name].unknowns.family
                self._trials[family] = replace(self._trials[family], gain=gain, sigma=sigma)
            idle = {n: g for n, (g, sigma) in found.items() if g <= _STILL * self._params.certainty * sigma}
            if not idle:
                return here
            # one at a time: what two groups both can say is lost with both
            group = by_name[min(idle, key=lambda n: idle[n])]
            family = group.unknowns.family
            del self._kept[family]
            self._trials[family] = replace(
                self._trials[family],
                accepted=False,
                reason="kept at first, and taken back when the images, or finer maps, no longer spoke for it",
            )
            here = self.linearise(group.unknowns.applied(here.state, -group.total))
            left = [f for f in families if f[0].family in self._kept]
            here, _ = self._step(here, left, species)  # the others, and the particles, follow

    def _chooser(self, here: _Linearised, species: Sequence[int]) -> GroupChooser:
        some = here if len(species) == len(self._species) else here.only(species)
        params = self._params
        return GroupChooser(some.terms(), some.views, self._folds(some), sets=params.folds, certainty=params.certainty)

    def _contrast(self) -> KeptGroup:
        bands = Contrast(len(self._species))
        return KeptGroup(unknowns=bands, size=bands.sizes[0], total=np.zeros(BANDS * len(self._species)))

    def _parted(self, families: Sequence[Sequence[Unknowns]]) -> tuple[list[KeptGroup], list[Sequence[Unknowns]]]:
        """Groups that were kept before, and families of which none was."""
        before, untried = [], []
        for family in families:
            known = self._kept.get(family[0].family)
            same = [u for u in family if known is not None and u.name == known.name]
            if known is not None and same:
                before.append(KeptGroup(unknowns=same[0], size=known.size, total=known.total))
            else:
                untried.append(family)
        return before, untried

    @property
    def _everyone(self) -> list[int]:
        return list(range(len(self._species)))

    def _changed(self, state: SeriesState, choice: Choice, share: float) -> SeriesState:
        for group, change in zip(choice.groups, choice.changes, strict=True):
            state = group.unknowns.applied(state, share * change)
        particles, start = [], 0
        for part in state.particles:
            own = share * choice.own[start : start + len(part)]
            particles.append(moved_particles(part, own) if "poses" in self._params.groups else part)
            start += len(part)
        return replace(state, particles=tuple(particles))

    def _remember(self, choice: Choice, share: float) -> None:
        for trial in choice.trials:
            self._trials[trial.family] = trial
        for group, change, sigma in zip(choice.groups, choice.changes, choice.sigmas, strict=True):
            of = group.unknowns
            if of.family == "contrast":
                continue
            total = group.total + share * change
            self._kept[of.family] = KeptChange(
                family=of.family, name=of.name, size=group.size, total=total, sigma=sigma
            )
            self._trials[of.family] = replace(
                self._trials[of.family],
                rms=float(np.sqrt(np.square(total).mean())),
                median_sigma=float(np.median(sigma)),
            )

    def _folds(self, some: _Linearised) -> np.ndarray:
        """(particle,), sets held out together."""
        generator = np.random.default_rng(self._params.seed)
        return np.asarray(generator.permutation(some.views.particles) % self._params.folds)

    def _held_out_of(self, families: list[list[Unknowns]]) -> list[list[Unknowns]]:
        """The families; none where there are too few particles to hold some out, which is remembered."""
        if self._count >= self._params.folds:
            return families
        few = f"{self._count} particles in this series; {self._params.folds} at least are needed to hold some out"
        self._refuse(families, few)
        return []

    @property
    def _optics_terms(self) -> list[OpticsTerm]:
        return [t for t in OPTICS_TERMS if t.option in self._params.groups]

    @property
    def _fine(self) -> list[int]:
        """Species with enough detail to say something of the contrast transfer."""
        return [i for i, s in enumerate(self._species) if s.resolution_angstrom <= self._params.transfer_angstrom]

    def _optics(self, here: _Linearised) -> dict[str, FoldedEquations]:
        wanted = self._optics_terms
        if not wanted or self._no_transfer(here.state):
            return {}
        chooser = self._chooser(here, self._fine)
        bands = Contrast(len(self._species))
        return {t.name: chooser.equations([bands, t]).along(slice(BANDS * len(self._species), None)) for t in wanted}

    def _signal(self, here: _Linearised) -> TiltSignal:
        """Contrast of each band in each tilt: what the data hold of the model over what it holds itself."""
        sums, a = here.sums, here.contrasts[here.sums.particle]
        tilts = len(here.state.series.tilts)
        shown, norm = np.zeros((tilts, BANDS)), np.zeros((tilts, BANDS))
        np.add.at(shown, sums.tilt, a[:, None] * sums.overlap[:, :BANDS])
        np.add.at(norm, sums.tilt, a[:, None] ** 2 * sums.norm[:, :BANDS, :BANDS].sum(2))
        norm = np.maximum(norm, 1e-12)
        return TiltSignal(frequency=np.sqrt(self._band_squares()), contrast=shown / norm, sigma=1.0 / np.sqrt(norm))

    def _no_transfer(self, state: SeriesState) -> str:
        """Why nothing can be said of the contrast transfer; empty where something can."""
        if not state.series.has_ctf:
            return "the contrast transfer of the series is not known"
        if any(s.source.phase is None for s in self._species):
            return "the averages were made without contrast transfer"
        if self._fine:
            return ""
        best = min(s.resolution_angstrom for s in self._species)
        return f"no species resolves {self._params.transfer_angstrom:g} A; the best has {best:.1f} A"

    def _refuse(self, families: Sequence[Sequence[Unknowns]], reason: str) -> None:
        for family in families:
            first = family[0]
            self._trials[first.family] = GroupTrial(
                family=first.family,
                name=first.name,
                unit=first.unit,
                size=math.nan,
                gain=math.nan,
                sigma=math.nan,
                accepted=False,
                reason=reason,
            )

    def _geometry(self, state: SeriesState) -> list[list[Unknowns]]:
        """Families of groups that change where images show particles, in their order."""
        series, params = state.series, self._params
        tilts = len(series.tilts)
        doses = series.middle_doses
        through_dose = np.isfinite(doses).all() and len(np.unique(doses)) >= params.dose_knots
        knots = np.linspace(0.0, 1.0, params.dose_knots) ** 1.5 * (doses.max() - doses.min()) + doses.min()
        edges = [n * series.pixel_size_angstrom for n in series.image_shape]
        z = np.concatenate([p.positions_angstrom[:, 2] for p in state.particles])
        depth = max(200.0, 2.0 * float(np.abs(z).max(initial=0.0)))
        every: dict[GroupName, list[Unknowns]] = {
            "shifts": [TiltShifts(tilts)],
            "volume-warp": [
                VolumeWarpGrid(grid=(1, g, g), doses=knots, extent_angstrom=(depth, edges[0], edges[1]))
                for g in params.volume_grids
                if through_dose
            ],
            "image-warp": [
                ImageWarpGrid(
                    tilts=tilts,
                    grid=(g, g),
                    image_shape=series.image_shape,
                    pixel_size_angstrom=series.pixel_size_angstrom,
                )
                for g in params.image_grids
            ],
            "axis": [CommonAngles()],
            "angles": [StageAngles(tilts)],
        }
        if "volume-warp" in params.groups and not every["volume-warp"]:
            named = VolumeWarpGrid(grid=(1, 2, 2), doses=np.zeros(1), extent_angstrom=(depth, edges[0], edges[1]))
            self._refuse([[named]], f"its images have no known doses, or fewer than {params.dose_knots} different ones")
        out: list[list[Unknowns]] = []
        for name in GEOMETRY:
            if name in params.groups:
                # the same for all images, and one for each, may both be
                both: list[list[Unknowns]] = [[AnisotropicMagnification()], [TiltMagnification(tilts)]]
                out += both if name == "magnification" else [every[name]]
        return [family for family in out if family]

    def _transfer(self, state: SeriesState) -> list[list[Unknowns]]:
        """Families of groups of the contrast transfer, in their order."""
        groups = self._params.groups
        out: list[list[Unknowns]] = []
        if "defocus" in groups:
            out += [[SeriesDefocus()], [TiltDefocus(len(state.series.tilts))]]
        if "astigmatism" in groups:
            out.append([Astigmatism()])
        if "phase-shift" in groups:
            out.append([PhaseShift()])
        return out

    def _weights(self, state: SeriesState) -> Unknowns:
        return TiltContrast(tilts=len(state.series.tilts), band_squares=self._band_squares())

    def _band_squares(self) -> FloatArray:
        """(band,) 1/A^2."""
        return np.asarray((np.arange(BANDS) / (BANDS - 1) / self._finest) ** 2)
