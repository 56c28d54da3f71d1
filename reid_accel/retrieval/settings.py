"""How retrieval scores are to be made, checked once for one rank and for many."""

from dataclasses import dataclass

from reid_accel.retrieval.checks import check_choice, check_positive
from reid_accel.retrieval.distances import CHUNK_BYTES, GALLERY_BLOCK, METRICS
from reid_accel.retrieval.expansion import AlphaExpansion
from reid_accel.retrieval.protocol import PROTOCOLS
from reid_accel.retrieval.rerank import KReciprocal

AVERAGE_PRECISIONS = ("standard", "trapezoid")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `ranking.evaluate`, which says what each of them means."""

    metric: str = "euclidean"
    protocol: str = "market1501"
    average_precision: str = "standard"
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    rerank: KReciprocal | None = None
    query_expansion: AlphaExpansion | None = None
    chunk_bytes: int = CHUNK_BYTES
    gallery_block: int = GALLERY_BLOCK

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, METRICS)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("average_precision", self.average_precision, AVERAGE_PRECISIONS)
        check_positive("chunk_bytes", self.chunk_bytes)
        check_positive("gallery_block", self.gallery_block)
        object.__setattr__(self, "ranks", tuple(self.ranks))  # a YAML gives a list
        for rank in self.ranks:
            check_positive("ranks", rank)
