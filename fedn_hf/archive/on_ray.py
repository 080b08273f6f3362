"""The same on a cluster: Ray Data hands the videos out to actors, one row each."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..media_fedn import FednError, install
from .processes import usable_cpus
from .videos import Video
from .worker import Work

# Only rows pass through it: a few hundred bytes for each video. Ray takes no less.
_OBJECT_STORE_BYTES = 100 * 2**20


class _Actor:
    """A `Worker` as Ray Data takes it: rows in, rows out, as JSON, which has one type whatever is missing in it."""

    def __init__(self, make: Callable[[], Work]):
        self.worker = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"row": json.dumps(self.worker(Video(**json.loads(row["video"]))))}


def run_on_ray(
    videos: Sequence[Video], make: Callable[[], Work], workers: int | None = None, gpus_per_worker: float = 0.0
) -> Iterator[dict[str, Any]]:
    """
    The rows of the videos, as they come. The cluster is that of the environment variable RAY_ADDRESS, or else this
    machine. All nodes must see the videos and the archive under the same paths.

    Each actor decodes, follows faces and runs the network for one video at a time; nothing but rows passes between
    machines. On a GPU several share it, so that some decode while others compute. What was in hand on a node that is
    lost is begun again elsewhere; see `Worker` for what ends its workers again and again.

    Args:
        make: makes the worker of an actor: `functools.partial(Worker, job)`.
        workers: actors, a CPU each; as many as the cluster has CPUs if None.
        gpus_per_worker: part of a GPU for each, such as 0.125.

    Raises:
        `FednError`: Ray is missing, there is no cluster at that address, or no actor can load the network.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters comes as an exception
    try:
        import ray
    except ImportError as error:
        raise FednError(f"the engine ray needs Ray Data: {install('archive')}") from error

    _connect(ray, workers)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        rows = [{"video": json.dumps(asdict(video))} for video in videos]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,
            fn_constructor_args=(make,),
            # One in flight: a second one would wait behind a long video while other actors have nothing to do.
            compute=ray.data.ActorPoolStrategy(size=min(size, len(rows)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=gpus_per_worker,
        )
        for row in results.iter_rows():
            yield json.loads(row["row"])
    except ray.exceptions.RayError as error:
        raise FednError(
            f"Ray gave up ({_in_one_line(error)}); what is done stays, the same command goes on"
        ) from error
    finally:
        ray.shutdown()


def _connect(ray, workers: int | None) -> None:
    address = os.environ.get("RAY_ADDRESS")
    here = {
        "num_cpus": workers or usable_cpus(),
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    try:
        ray.init(
            address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **({} if address else here)
        )
    except Exception as error:  # of no kind of its own where a node starts too slowly
        where = f"of RAY_ADDRESS={address} cannot be used" if address else "on this machine does not start"
        raise FednError(f"the Ray cluster {where} ({_in_one_line(error)})") from error


def _in_one_line(error: Exception) -> str:
    """The last line: errors of actors end with what was raised there."""
    return str(error).strip().rpartition("\n")[2][:300]


__all__ = ["run_on_ray"]
