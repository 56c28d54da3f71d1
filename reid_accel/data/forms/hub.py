"""Any image data set of the `datasets` library as a re-ID set, from the hub or a local folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reid_accel.data.listing import Listing


@dataclass(frozen=True)
class Hub:
    """See the module. columns: the column of image, person, camera, split, tracklet, time or name, if not as usual."""

    cache_dir: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    name: str = "hub"

    def check(self, root: Path) -> None:
        """See `Layout`. A set of the hub is downloaded; no image is written."""
        from reid_accel.data.forms.hub_tables import (  # imported late, since it imports `datasets`
            columns_of,
            open_tables,
        )

        columns_of(open_tables(str(root)), self.columns)

    def read(self, root: Path) -> Listing:
        """See `Layout`. Images that are stored in the tables are written to files in the cache once."""
        from reid_accel.data.forms.hub_listing import read_set

        return read_set(str(root), self.columns, self.cache_dir)
