"""The machine: GPU and torch, threads, memory, disk, temporary folders, open files, and a project's lock."""

import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from eucentric.compute.threads import thread_count
from eucentric.errors import EucentricError
from eucentric.pipeline import records
from eucentric.pipeline.doctor.cases import Cases
from eucentric.pipeline.doctor.commands import command, run_command
from eucentric.pipeline.doctor.findings import Fault, NotChecked, Passed, Remedy, Result
from eucentric.pipeline.lock import LOCK_FILE, lock_holder
from eucentric.pipeline.steps import TaskMaker, project_steps, survey

_GIB = 2**30
_LEAST_FILES = 1024
_LEAST_TEMPORARY = 2 * _GIB
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "afs",
    "9p",
    "ceph",
    "glusterfs",
}
_NVIDIA = Path("/proc/driver/nvidia/version")
_CGROUPS = Path("/sys/fs/cgroup")
_COPIES = 3
"""Whole images or volumes, and two halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """What is known of GPUs without using them."""

    torch_version: str
    built_for: str | None
    """CUDA version of this build of PyTorch; None for a build for CPUs."""
    seen: int
    """GPUs that PyTorch finds."""
    hardware: bool
    """Whether the system has an NVIDIA GPU or its driver."""
    driver: str
    """First line of the driver's own version file."""
    hidden_by: str | None
    """What `CUDA_VISIBLE_DEVICES` says, where it is set."""
    names: tuple[str, ...] = ()
    too_new: tuple[str, ...] = ()
    """GPUs for which this build holds no code."""


def look_at_gpus() -> GpuState:
    """Ask PyTorch and the system."""
    hardware = _NVIDIA.exists() or any(Path("/dev").glob("nvidia[0-9]*"))
    lines = _text(_NVIDIA).splitlines()
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names, too_new = [], []
    built = set(torch.cuda.get_arch_list()) if seen else set()
    for i in range(seen):
        names.append(torch.cuda.get_device_name(i))
        major, minor = torch.cuda.get_device_capability(i)
        if built and not any(_serves(arch, major, minor) for arch in built):
            too_new.append(names[-1])
    return GpuState(
        torch_version=torch.__version__,
        built_for=torch.version.cuda,
        seen=seen,
        hardware=hardware,
        driver=lines[0] if lines else "",
        hidden_by=os.environ.get("CUDA_VISIBLE_DEVICES"),
        names=tuple(names),
        too_new=tuple(too_new),
    )


def _serves(arch: str, major: int, minor: int) -> bool:
    """Whether code for `sm_90` or `compute_90` runs on a GPU of that capability."""
    kind, _, number = arch.partition("_")
    digits = "".join(c for c in number if c.isdigit())
    if not digits:
        return True
    own = (int(digits[:-1] or 0), int(digits[-1]))
    return own <= (major, minor) if kind == "compute" else own[0] == major and own[1] <= minor


def check_machine(cases: Cases, gpus: GpuState | None = None) -> Iterator[Result]:
    """Everything about the machine, with what the project still has to do."""
    yield from check_gpus(look_at_gpus() if gpus is None else gpus)
    yield from check_threads(thread_count(), _quota(), os.environ, torch.get_num_threads())
    yield from _files()
    yield from _temporary()
    if cases.project is None:
        return
    yield from _lock(cases)
    need = _work_ahead(cases)
    if need is None:
        yield NotChecked(check="memory", text="What the project still needs is not known: its tables cannot be read.")
        return
    peak, written = need
    yield from check_memory(peak, _free_memory(), cases.shown)
    try:
        free = shutil.disk_usage(cases.project).free
    except OSError:
        return
    yield from check_disk(written, free, cases.shown, str(cases.project))


def check_gpus(gpus: GpuState) -> Iterator[Result]:
    """Whether PyTorch sees the GPUs that are there, and if not, why."""
    build = f"PyTorch {gpus.torch_version}, built for {'CUDA ' + gpus.built_for if gpus.built_for else 'CPUs'}"
    if gpus.too_new:
        yield Fault(
            check="gpu",
            severity="error",
            confidence="certain",
            title="PyTorch holds no code for this GPU.",
            compared=f"{', '.join(gpus.too_new)} against {build}.",
            consequence="Every stage on the GPU stops at its first step. Until another build is installed, use `--device cpu`.",
            remedies=(Remedy(command="python -m pip install --upgrade torch"),),
        )
    elif gpus.seen:
        yield Passed(check="gpu", text=f"{build}, sees {', '.join(gpus.names)}.")
    elif gpus.hidden_by is not None and gpus.hardware and gpus.built_for:
        yield Fault(
            check="gpu",
            severity="warning",
            confidence="likely",
            title="A setting hides the GPUs from PyTorch.",
            compared=f"CUDA_VISIBLE_DEVICES is `{gpus.hidden_by}`, and PyTorch finds no GPU; the system has one "
            f"({gpus.driver or 'NVIDIA'}).",
            consequence="Everything runs on the CPU, some ten times slower.",
            remedies=(Remedy(command="unset CUDA_VISIBLE_DEVICES", when="unless the queue of a cluster set it"),),
        )
    elif gpus.hardware and gpus.built_for is None:
        yield Fault(
            check="gpu",
            severity="warning",
            confidence="certain",
            title="There is a GPU, and this PyTorch is a build for CPUs.",
            compared=f"{build}; the system has {gpus.driver or 'an NVIDIA GPU'}.",
            consequence="Everything runs on the CPU, some ten times slower.",
            remedies=(
                Remedy(
                    command="python -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126"
                ),
            ),
        )
    elif gpus.hardware:
        yield Fault(
            check="gpu",
            severity="warning",
            confidence="likely",
            title="There is a GPU, and PyTorch cannot use it.",
            compared=f"{build}; the system has {gpus.driver or 'an NVIDIA GPU'}. Mostly the driver is older than this CUDA "
            f"asks for, or the "
            "devices may not be opened by this user.",
            consequence="Everything runs on the CPU, some ten times slower.",
            remedies=(
                Remedy(command="nvidia-smi", when="to see which CUDA version the driver offers at most"),
                Remedy(
                    command="python -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu118",
                    when="for a build that suits older drivers",
                ),
            ),
        )
    else:
        yield Passed(check="gpu", text=f"{build}; no NVIDIA GPU is here, so the CPU is used.")


def check_threads(
    cores: int, quota: float | None, environment: "os._Environ[str] | dict[str, str]", used: int
) -> Iterator[Result]:
    """Whether more threads run than there are cores to run them.

    Parameters
    ----------
    cores : that this process may run on
    quota : cores' worth of time that a container grants; None for no limit
    used : threads of torch
    """
    asked = {k: v for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS") if (v := environment.get(k))}
    most = max([used, *(int(v) for v in asked.values() if v.isdigit())])
    allowed = cores if quota is None else min(cores, max(1, math.ceil(quota - 0.05)))
    if most > allowed:
        limit = (
            f"this container grants {quota:.1f} cores"
            if quota is not None and allowed < cores
            else f"{cores} cores may be used"
        )
        yield Fault(
            check="threads",
            severity="warning",
            confidence="certain",
            title="More threads are used than there are cores.",
            compared=f"{most} threads ({', '.join(f'{k}={v}' for k, v in asked.items()) or 'as PyTorch chose'}); {limit}.",
            consequence="Threads wait for each other: stages take up to several times as long.",
            remedies=(
                Remedy(
                    command=f"export OMP_NUM_THREADS={allowed} MKL_NUM_THREADS={allowed} NUMBA_NUM_THREADS={allowed}"
                ),
            ),
        )
        return
    yield Passed(check="threads", text=f"{most} threads for {allowed} cores.")


def check_memory(peak: int, free: int, project: str) -> Iterator[Result]:
    """Whether the largest item fits into the memory that is free."""
    if not peak:
        yield Passed(check="memory", text=f"Nothing is left to do that needs memory; {free / _GIB:.1f} GiB are free.")
        return
    words = f"The largest tilt series needs {peak / _GIB:.1f} GiB by what its stages declare; {free / _GIB:.1f} GiB are free"
    if peak <= free:
        yield Passed(check="memory", text=f"{words}.")
        return
    yield Fault(
        check="memory",
        severity="error" if peak > 1.5 * free else "warning",
        confidence="likely",
        title="The memory does not suffice for the largest tilt series.",
        compared=f"{words}.",
        consequence="The stage ends with an error, or the system kills it.",
        remedies=(
            Remedy(command=run_command(project, "--workers", "1"), when="if other programs can be closed first"),
            Remedy(
                command=command("eucentric", "reconstruct", project, "--pixel-size-angstrom", "16"),
                when="if it is the reconstruction: at larger pixels",
            ),
        ),
    )


def check_disk(written: int, free: int, project: str, place: str) -> Iterator[Result]:
    """Whether the results still to come fit onto the disk."""
    words = f"About {written / _GIB:.1f} GiB are still to be written (an estimate by image sizes); {free / _GIB:.1f} GiB are free"
    if written * 1.1 <= free:
        yield Passed(check="disk", text=f"{words}.")
        return
    yield Fault(
        check="disk",
        severity="error" if written > free else "warning",
        confidence="likely",
        title="The disk is too full for the results of this project.",
        compared=f"{words} on the disk of `{place}`.",
        consequence="Runs stop when it is full. What is done is kept, and the same command goes on once there is room.",
        remedies=(
            Remedy(command=command("df", "-h", place), when="to see the disk"),
            Remedy(
                command=command("eucentric", "motion", project, "--binning", "2"),
                when="for sums of a quarter of the size",
            ),
        ),
    )


def _files() -> Iterator[Result]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _LEAST_FILES or soft < 0:
        yield Passed(check="open-files", text=f"{soft} files may be open at once.")
        return
    most = min(4096, hard) if hard > 0 else 4096
    yield Fault(
        check="open-files",
        severity="warning",
        confidence="certain",
        title="Few files may be open at once.",
        compared=f"The limit is {soft}; several workers with movies need {_LEAST_FILES} or more.",
        consequence="Runs with many workers end with `Too many open files`.",
        remedies=(Remedy(command=f"ulimit -n {most}"),),
    )


def _temporary() -> Iterator[Result]:
    place = Path(tempfile.gettempdir())
    kind = filesystem_of(place)
    free = shutil.disk_usage(place).free
    if kind in _NETWORK:
        yield Fault(
            check="temporary",
            severity="warning",
            confidence="certain",
            title="Temporary files go to a network folder.",
            compared=f"`{place}` is of type {kind}.",
            consequence="Workers that exchange data through it are slow, and some network folders lose locks.",
            remedies=(Remedy(command="export TMPDIR=/tmp", when="or another folder on a disk of this machine"),),
        )
    elif free < _LEAST_TEMPORARY:
        yield Fault(
            check="temporary",
            severity="warning",
            confidence="likely",
            title="There is little room for temporary files.",
            compared=f"{free / _GIB:.1f} GiB are free in `{place}`.",
            consequence="Workers may end with an error when it is full.",
            remedies=(Remedy(command="export TMPDIR=$HOME/tmp && mkdir -p $HOME/tmp"),),
        )
    else:
        yield Passed(check="temporary", text=f"Temporary files go to `{place}` ({free / _GIB:.0f} GiB free).")


def filesystem_of(place: Path) -> str:
    """The type of the file system that holds a folder; empty where the system does not tell."""
    try:
        mounts: Sequence[tuple[str, str]] = [(p.mountpoint, p.fstype) for p in psutil.disk_partitions(all=True)]
    except (OSError, RuntimeError):
        return ""
    full = str(place.resolve())
    holding = [(m, t) for m, t in mounts if full == m or full.startswith(m.rstrip("/") + "/")]
    return max(holding, key=lambda one: len(one[0]))[1].lower() if holding else ""


def _lock(cases: Cases) -> Iterator[Result]:
    assert cases.project is not None
    try:
        holder = lock_holder(cases.project)
    except EucentricError as error:
        yield NotChecked(check="lock", text=str(error))
        return
    if holder is None:
        yield Passed(check="lock", text="No command holds the project, and none died while it did.")
        return
    who = f"`eucentric {holder.command}`, process {holder.pid} on {holder.host}, since {holder.since}"
    if holder.state == "running":
        yield Passed(check="lock", text=f"{who}, is at work on the project: what is said here may change.")
    elif holder.state == "gone":
        yield Fault(
            check="lock",
            severity="warning",
            confidence="certain",
            title="A command ended without finishing: its lock was left behind.",
            compared=f"{who}, is noted in `{LOCK_FILE}` and runs no more.",
            consequence="Nothing is blocked, and no result is half written: what it did not finish is done again by the next "
            "run. If it was "
            "killed, memory is the usual reason.",
            remedies=(Remedy(command=run_command(cases.shown)),),
        )
    else:
        yield Fault(
            check="lock",
            severity="warning",
            confidence="possible",
            title="Another machine holds the project, or died while it did.",
            compared=f"{who}, is noted in `{LOCK_FILE}`; from {socket.gethostname()} it cannot be told whether it still runs.",
            consequence="Commands here may be refused. Two commands that write at once spoil each other's results.",
            remedies=(
                Remedy(
                    command=command("rm", str(Path(cases.shown) / LOCK_FILE)),
                    when="only if that process is gone for certain",
                ),
            ),
        )


def _work_ahead(cases: Cases) -> tuple[int, int] | None:
    """Bytes of memory of the largest item that is still to do, and of results still to be written."""
    plan, root = cases.plan, cases.project
    assert plan is not None
    assert root is not None
    names = [case.name for case in cases.cases]
    maker = TaskMaker(
        root=root,
        project=plan.project,
        exclusions={name: records.exclusions_of(plan.exclusions, name) for name in names},
        device="cpu",
        overwrite=False,
    )
    try:
        found = survey(maker, project_steps(root, plan), names)
    except (EucentricError, OSError):
        return None
    return max(found.peak_bytes, default=0), _still_written(cases, found.pending)


def _still_written(cases: Cases, pending: dict[str, int]) -> int:
    """By image sizes: sums and their halves as float16, tomograms and their halves as float16."""
    assert cases.plan is not None
    count = max(1, len(cases.cases))
    images = volumes = 0
    voxel = getattr(cases.plan.params("reconstruct"), "pixel_size_angstrom", None)
    for case in cases.cases:
        if case.series is None:
            continue
        rows, columns = case.series.image_shape
        if any(t.movie for t in case.series.tilts):
            images += 2 * _COPIES * len(case.series.tilts) * rows * columns
        pixel = case.series.pixel_size_angstrom
        ratio = pixel / max(pixel, voxel or 10.0)
        depth = 3000.0 / max(pixel, voxel or 10.0)
        volumes += int(2 * _COPIES * rows * columns * ratio**2 * depth)
    return int(images * pending.get("motion", 0) / count + volumes * pending.get("reconstruct", 0) / count)


def _free_memory() -> int:
    """Of the machine, or of the container where that has less."""
    free = int(psutil.virtual_memory().available)
    limit, used = _text(_CGROUPS / "memory.max").strip(), _text(_CGROUPS / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free = min(free, int(limit) - int(used))
    return max(free, 0)


def _quota() -> float | None:
    words = _text(_CGROUPS / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
