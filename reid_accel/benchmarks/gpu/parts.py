"""All parts of the benchmark, the most important first, with the time that each needs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from reid_accel.benchmarks.gpu import correctness, limits, ranking, real_images, scoring, speed, usual_loop
from reid_accel.benchmarks.gpu.rows import CORRECTNESS, REAL, SCORING, SECTIONS, TRAINING, Row
from reid_accel.benchmarks.gpu.setup import Setup


@dataclass(frozen=True)
class Part:
    """seconds: estimated time on a GPU; a part isn't started with less time left."""

    section: str
    title: str
    run: Callable[[Setup], Iterator[Row]]
    seconds: float


RIGHT_PARTS = (
    Part(CORRECTNESS, "a step against the CPU", correctness.step_against_cpu, 15),
    Part(CORRECTNESS, "bf16 against float32", correctness.bf16_against_float32, 8),
    Part(CORRECTNESS, "the same seed twice", correctness.same_seed_twice, 12),
    Part(CORRECTNESS, "stop and resume", correctness.stop_and_resume, 12),
    Part(CORRECTNESS, "augmentation against the CPU", correctness.augmentation_against_cpu, 5),
    Part(CORRECTNESS, "embeddings against the CPU", ranking.embeddings_against_cpu, 10),
    Part(CORRECTNESS, "ranking against the CPU", ranking.ranking_against_cpu, 10),
    Part(CORRECTNESS, "EMA", correctness.ema_by_hand, 5),
    Part(CORRECTNESS, "no host-device synchronization in a step", correctness.no_host_reads, 5),
    Part(CORRECTNESS, "out of memory", limits.out_of_memory, 10),
    Part(CORRECTNESS, "collectives with one process", limits.collectives, 8),
    Part(CORRECTNESS, "FSDP with one process", limits.sharded_weights, 10),
)
COMPILED = Part(CORRECTNESS, "torch.compile on and off", correctness.compiled_against_eager, 60)


def all_parts(*, large: bool, sections: Iterable[str] = SECTIONS) -> tuple[Part, ...]:
    """The parts of the given sections, at sizes for a GPU or at small sizes for the CPU."""
    chosen = {SECTIONS[name] for name in sections}
    return tuple(part for part in _parts(large) if part.section in chosen)


def _parts(large: bool) -> tuple[Part, ...]:
    batches, workers = (speed.BATCHES, (8, 16)) if large else (speed.SMALL_BATCHES, (1,))
    training = [Part(TRAINING, f"batch {size}", speed.speed_at(size), 12) for size in batches]
    training += [Part(TRAINING, f"usual loop, {count} workers", usual_loop.usual_loop(count), 30) for count in workers]
    profiled = (batches[0], 256) if large else batches[:1]
    training += [Part(TRAINING, f"profile, batch {size}", speed.profiled_loop(size), 10) for size in profiled]
    compiled = [
        Part(TRAINING, f"batch {size}, compiled", speed.speed_at(size, compiled=True), 75) for size in profiled if large
    ]
    scores = [
        Part(SCORING, "embedding", scoring.embedding_speed, 10),
        Part(SCORING, "ranking", scoring.ranking_speed(scoring.MARKET), 6),
        Part(SCORING, "ranking with distractors", scoring.ranking_speed(scoring.DISTRACTORS), 15),
        Part(SCORING, "re-ranking", scoring.ranking_speed(scoring.MARKET_RERANKED), 12),
    ]
    real = [Part(REAL, real_images.RECIPE.name, real_images.recipe_run, 60)]
    last = [Part(SCORING, "re-ranking with distractors", scoring.ranking_speed(scoring.DISTRACTORS_RERANKED), 150)]
    return (*RIGHT_PARTS, COMPILED, *training, *compiled, *scores, *real, *(last if large else []))
