"""What every store refuses in the same words: a commit by an orphan, a second start, an unknown partition."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fraud.errors import FencedError, StoreError
from fraud.store.base import PartitionKey, SliceCommit


def check_order(commit: SliceCommit) -> None:
    """Raise StoreError unless the answers lie in [expected, position) in strictly rising offset order."""
    offsets = commit.answers.offsets
    rising = bool(np.all(np.diff(offsets) > 0))
    inside = not len(offsets) or (offsets[0] >= commit.expected and offsets[-1] < commit.position)
    if commit.position < commit.expected or not rising or not inside:
        raise StoreError(
            f"a slice of partition {commit.key.partition} from {commit.expected} to {commit.position} "
            "carries answers out of order or outside of it; nothing was written"
        )
    if commit.collected is not None and len(commit.collected):
        bounds = commit.collected.ravel()
        if not _are_apart(commit.collected) or bounds[0] < commit.expected or bounds[-1] > commit.position:
            raise StoreError(
                f"a slice of partition {commit.key.partition} from {commit.expected} to {commit.position} "
                f"collects {commit.collected.tolist()}: out of order or outside of it; nothing was written"
            )


def _are_apart(ranges: npt.NDArray[np.int64]) -> bool:
    """Tell whether each range has something in it and none touches the next."""
    return bool(np.all(np.diff(ranges.ravel()) > 0))


def check_fence(commit: SliceCommit, position: int | None, epoch: int | None) -> None:
    """Raise FencedError unless the stored position and the score lease's epoch are the commit's."""
    topic_id, partition = commit.key
    if position is None:
        raise FencedError(f"partition {partition} of topic {topic_id} was never started; nothing was written")
    if epoch != commit.epoch:
        raise orphaned(partition, commit.epoch, epoch)
    if position != commit.expected:
        raise FencedError(
            f"a commit for partition {partition} of topic {topic_id} expects position {commit.expected}, "
            f"the store is at {position}: the slice was committed by somebody else; nothing was written"
        )


def orphaned(partition: int, carried: int, epoch: int | None) -> FencedError:
    """Return the refusal of a writer whose epoch isn't the lease's."""
    return FencedError(
        f"a write to partition {partition} carries epoch {carried}, the lease is at {epoch}: "
        "another job has taken over; nothing was written"
    )


def check_applied(stored: str | None, expected: str | None) -> None:
    """Raise FencedError unless the marker of the last batch applied to the profiles is the expected one."""
    if stored != expected:
        raise FencedError(
            f"the merchant profiles hold the changes up to batch {stored or 'none'}, not {expected or 'none'}: "
            "somebody else has applied or loaded some; nothing was written"
        )


def already_started(positions: Iterable[PartitionKey]) -> FencedError:
    """Return the refusal of a second start."""
    key = min(positions)
    return FencedError(
        f"the store already has a position for partition {key.partition} of topic {key.topic_id}; "
        "continue from it, or make the store anew with `fraud-detect rebuild`"
    )


def unknown_partition(key: PartitionKey) -> StoreError:
    """Return the refusal of a mark where there is no position."""
    return StoreError(f"partition {key.partition} of topic {key.topic_id} was never started: it has no mark")
