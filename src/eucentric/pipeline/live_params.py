"""Settings of following a microscope."""

from pydantic import Field

from eucentric.models.settings import Frozen


class LiveParams(Frozen):
    """When a tilt series counts as whole, what is known of it, and when its operator is told something."""

    interval_seconds: float = Field(
        default=20.0,
        gt=0,
        description="s between two looks at the folder: short beside a tilt series, long beside listing a network share. "
        "Folders are listed again and again, since network shares send no notices",
    )
    settle_seconds: float = Field(
        default=15.0,
        ge=0,
        description="s in which a file must keep its size and time before it is opened: longer than a copy stands still",
    )
    series_end_seconds: float = Field(
        default=180.0,
        ge=0,
        description="s without a new or changed file after which a series counts as ended: mdocs grow with every image, and "
        "the longest step of focus and tracking is some minutes",
    )
    pause_factor: float = Field(
        default=3.0,
        ge=0,
        description="a series has not ended either until it has rested so many times its longest pause between two images, "
        "but for the patience at most: series that are taken side by side pause for long",
    )
    images: int | None = Field(
        default=None,
        ge=2,
        description="images of a whole series: with them all there it is taken at once; none: only rest tells its end",
    )
    patience_minutes: float = Field(
        default=20.0,
        ge=0,
        description="minutes without a change after which a series is processed without movies that are missing or cannot be "
        "read: a transfer that fails is tried again within some minutes. It is processed again if they come later",
    )
    series_per_run: int = Field(
        default=4,
        ge=1,
        description="series taken together when several wait: more use the machine better, fewer renew the report sooner",
    )
    share_axis: bool = Field(
        default=False,
        description="share the tilt axis among series while they come in; off: each series is processed once, with the axis "
        "that it shows itself, and the next `eucentric run` shares it",
    )
    gain: str | None = Field(
        default=None, description="path of the gain reference of the camera; none: frames are used as they are"
    )
    voltage_kv: float | None = Field(default=None, gt=0, description="kV; goes before what files say")
    pixel_size_angstrom: float | None = Field(default=None, gt=0, description="A, of the frames; goes before files")
    dose_per_tilt: float | None = Field(default=None, ge=0, description="e/A2 for each tilt; goes before files")
    tilt_axis_deg: float | None = Field(default=None, ge=-360, le=360, description="degrees, as rlnTomoZRot")
    blur_limit_angstrom: float = Field(
        default=1.9,
        gt=0,
        description="A, rms motion within a frame, above which drift is told: it halves the amplitudes at 10 A",
    )
    motion_limit_angstrom: float = Field(
        default=40.0,
        gt=0,
        description="A, median motion within an image above which drift is told: a stage at rest moves by some 10 A a second",
    )
    defocus_error_angstrom: float = Field(
        default=5000.0,
        gt=0,
        description="A between defocus and its target above which it is told: autofocus of a tilted specimen errs by some 0.2 um",
    )
    tracking_limit_percent: float = Field(
        default=15.0,
        gt=0,
        lt=100,
        description="percent of the field's width that an image may be shifted: beyond it that much of the specimen is out of view",
    )
    thickness_limit_angstrom: float = Field(
        default=3000.0,
        gt=0,
        description="A; about the mean free path in ice at 300 kV: at 60 degrees less than one electron in seven passes unscattered",
    )
    dose_limit: float = Field(
        default=150.0,
        gt=0,
        description="e/A2 of a whole series; half of the signal at 20 A is lost by some 60, and the last images of more tell little",
    )
    recent_series: int = Field(
        default=5, ge=2, description="series whose medians are told as advice for the session, and whose pace is shown"
    )
