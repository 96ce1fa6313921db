"""Every address of the viewer. One line a page: its pattern, and the handler that answers.

Groups of a pattern are arguments of the handler's methods, already decoded; pass names through `security.inside`, or look
them up among what the project has (`project_view`).
"""

from tornado.web import RequestHandler

from eucentric.viewer.curate_handlers import EditHandler, LogHandler, NextHandler, UndoHandler
from eucentric.viewer.index_page import IndexHandler
from eucentric.viewer.layer_handlers import AnnotationHandler, MeshHandler
from eucentric.viewer.neuroglancer_client import ClientHandler, EventsHandler
from eucentric.viewer.particle_page import ParticleHandler, SliceHandler, ThumbnailHandler, TiltHandler
from eucentric.viewer.repair_draw_page import DrawnHandler, LabelPictureHandler, RepairDrawHandler
from eucentric.viewer.repair_tracks_page import RecordedPictureHandler, RepairTracksHandler, TracksHandler
from eucentric.viewer.slices_page import EditedPicksHandler, SlicePictureHandler, SlicesHandler
from eucentric.viewer.static_files import StaticHandler
from eucentric.viewer.tilts_page import TiltListHandler, TiltPictureHandler, TiltsHandler
from eucentric.viewer.tomogram_page import PicksHandler, SceneHandler, TomogramHandler
from eucentric.viewer.volume_handlers import ChunkHandler, ImageHandler, LevelHandler

NAME = r"([^/]+)"
"""One part of a path: the name of a series, a list of picks."""
_COUNT = r"(\d{1,6})"

ROUTES: list[tuple[str, type[RequestHandler]]] = [
    (r"/", IndexHandler),
    (r"/static/([\w.-]+)", StaticHandler),
    (rf"/tomogram/{NAME}", TomogramHandler),
    (rf"/api/tomograms/{NAME}/scene", SceneHandler),
    (rf"/api/tomograms/{NAME}/picks/{NAME}", PicksHandler),
    (rf"/volumes/{NAME}/{NAME}/zarr.json", ImageHandler),
    (rf"/volumes/{NAME}/{NAME}/{_COUNT}/zarr.json", LevelHandler),
    (rf"/volumes/{NAME}/{NAME}/{_COUNT}/c/{_COUNT}/{_COUNT}/{_COUNT}", ChunkHandler),
    (rf"/annotations/{NAME}/{NAME}/(points|axes)/(info|all/0_0_0|by_id/\d+)", AnnotationHandler),
    (rf"/meshes/{NAME}/(file|copies)/{NAME}/(info|names/info|\d+:\d+|part\d+)", MeshHandler),
    (r"/v/view/([\w.-]*)", ClientHandler),
    (r"/events/view", EventsHandler),
    (rf"/particle/{NAME}/{NAME}/{_COUNT}", ParticleHandler),
    (rf"/pictures/series/{NAME}\.png", ThumbnailHandler),
    (rf"/pictures/particle/{NAME}/{NAME}/{_COUNT}/(xy|xz|yz)\.png", SliceHandler),
    (rf"/pictures/particle/{NAME}/{NAME}/{_COUNT}/tilt/{_COUNT}\.png", TiltHandler),
    (rf"/slices/{NAME}", SlicesHandler),
    (rf"/api/slices/{NAME}/picks/{NAME}", EditedPicksHandler),
    (rf"/pictures/slice/{NAME}/{NAME}/(xy|xz|zy)/{_COUNT}\.png", SlicePictureHandler),
    (rf"/tilts/{NAME}", TiltsHandler),
    (rf"/api/tilts/{NAME}", TiltListHandler),
    (rf"/pictures/tilt/{NAME}/{_COUNT}\.jpg", TiltPictureHandler),
    (rf"/repair/tracks/{NAME}", RepairTracksHandler),
    (rf"/api/repair/tracks/{NAME}", TracksHandler),
    (rf"/pictures/repair/tilt/{NAME}/{_COUNT}\.jpg", RecordedPictureHandler),
    (rf"/repair/draw/{NAME}", RepairDrawHandler),
    (rf"/api/repair/draw/{NAME}", DrawnHandler),
    (rf"/pictures/repair/labels/{NAME}/(xy|xz|zy)/{_COUNT}\.png", LabelPictureHandler),
    (r"/curation", LogHandler),
    (r"/api/curation/edit", EditHandler),
    (r"/api/curation/(undo|redo)", UndoHandler),
    (r"/api/curation/next", NextHandler),
]
