"""Which of the labelled images are evaluated: never silently those that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from converter.core.errors import UsageError
from converter.core.foreign import Json
from converter.data.feed import Feed
from converter.data.fingerprint import digests_of, fingerprint, overlap
from converter.data.samples import Indices, Samples
from converter.data.split import PARTS, split
from converter.prediction.subject import Subject

SUBSETS = (*PARTS, "all")
GROUP = 256
"""Images that are looked at together"""


def chosen(
    samples: Samples, source: Mapping[str, Json], subset: str | None, limit: int | None
) -> tuple[str, Indices, tuple[str, ...]]:
    """The name of the part, the indices of its images, and notes; `source` is that of the manifest.

    Where the model was trained on these images, the same split is made again and the test part is the default. Raises
    UsageError for a part of data that the model was not trained on, and for a limit below 1.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UsageError(f"--limit {limit}: give a whole number of at least 1")
    training = source.get("training")
    digests = digests_of(samples)
    own = isinstance(training, Mapping) and training.get("fingerprint") == fingerprint(samples, digests)
    notes: tuple[str, ...] = ()
    part = subset or ("test" if own else "all")
    if part == "all":
        indices = np.arange(len(samples), dtype=np.int64)
        if own:
            notes = ("includes the images that the model was trained on",)
    elif isinstance(training, Mapping) and own:
        shares, seed = training.get("shares", (0.1, 0.1)), training.get("seed", 0)
        found = split(samples.labels, digests, validation=float(shares[0]), test=float(shares[1]), seed=int(seed))
        indices = found.part(part)
        if part != "test":
            notes = (f"these are the {part} images, which the training has seen",)
    else:
        raise UsageError(
            f"--subset {part}: the model was not trained on {samples.title}, so it has no parts\nleave it out"
        )
    if limit is not None and limit < len(indices):
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(indices))[:limit]
        indices = np.sort(indices[order])
        notes = (*notes, f"{limit:,} of the images, drawn at random")
    return part, indices, notes


def refuse_calibrating(subjects: Sequence[Subject], feed: Feed) -> None:
    """Raise UsageError where an int8 artifact was calibrated with images of `feed`: its accuracy on them says too much.

    They are recognized by the hash of the input that they become.
    """
    for subject in subjects:
        facts = subject.artifact.options.get("quantization")
        hashes = facts.get("sample_hashes", ()) if isinstance(facts, Mapping) else ()
        if not hashes:
            continue
        groups = (range(start, min(start + GROUP, len(feed))) for start in range(0, len(feed), GROUP))
        found = sum(overlap(hashes, {"images": feed.batch(group)}) for group in groups)
        if found:
            raise UsageError(
                f"--data {feed.samples.title}: {found:,} of {len(feed):,} images calibrated {subject.artifact.path}\n"
                "evaluate on other images, or export again with another --calibration"
            )
