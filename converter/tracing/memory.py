"""The memory that a graph may take: tensors that no machine holds are refused, and a loop that grows is stopped."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from converter.core.errors import InputError
from converter.core.foreign import GraphDef, Session
from converter.core.limits import available
from converter.tracing.functions import all_nodes
from converter.tracing.naming import described_layer

SHARE = 0.8
"""Of the memory of the machine, or of the limit that a container sets, which this process may take in a loop."""

_INTERVAL = 0.2
"""Seconds between two looks at the memory"""


def refuse_giants(graph_def: GraphDef, layers: Mapping[str, str]) -> None:
    """Raise InputError, which names the layer, for a tensor of one sample that is larger than the memory.

    The nodes have the shapes that TensorFlow records; an unknown size counts as 1, an unknown type as four bytes.
    """
    import tensorflow as tf

    limit = available()
    for node in all_nodes(graph_def):
        kind = node.attr["T"].type if "T" in node.attr else 0
        for shape in node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else ():
            size = math.prod(max(each.size, 1) for each in shape.dim) * ((kind and tf.as_dtype(kind).size) or 4)
            if size > limit:
                raise InputError(
                    f"{described_layer(node.name, layers)}: {node.op} makes a tensor of {size / 1e9:.0f} GB, "
                    f"and there are {limit / 1e9:.0f} GB of memory\nmake it smaller"
                )


@contextmanager
def stopped_when_full(session: Session, loops: bool) -> Iterator[list[int]]:
    """Within the context, `session` is closed when this process takes more than `SHARE` of the memory.

    Then the list has one element, the bytes. Only where there are `loops`: nothing else grows while it runs.
    """
    full: list[int] = []
    if not loops or not Path("/proc/self/statm").is_file():
        yield full
        return
    done, limit, page = threading.Event(), SHARE * available(), os.sysconf("SC_PAGE_SIZE")

    def watch() -> None:
        while not done.wait(_INTERVAL):
            taken = int(Path("/proc/self/statm").read_text().split()[1]) * page
            if taken > limit:
                full.append(taken)
                session.close()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield full
    finally:
        done.set()
        watcher.join()
