"""The first page: all series of the project."""

from eucentric.viewer.handlers import EnterHandler
from eucentric.viewer.project_view import series_names


class IndexHandler(EnterHandler):
    """`/`."""

    async def get(self) -> None:
        if self.entered():
            return
        names = await self.in_thread(series_names, self.site.root)
        self.page("index.html", names=names)
