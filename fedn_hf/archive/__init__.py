"""Archives of thousands of videos: every one of them once, whatever breaks on the way.

`videos` says which ones there are, `store` keeps what is known of each on the disk, `worker` does one video, and
`processes` and `on_ray` hand the videos out: on this machine, or on a cluster. Both run the same `Worker`, and what is
done is read from the files alone, so one can go on where the other was killed. `tables` makes two Parquet files of it.
"""

from .store import Archive
from .tables import write_tables
from .videos import Video, find_durations, longest_first, read_manifest, shard_of
from .worker import Job, Worker

__all__ = [
    "Archive",
    "Job",
    "Video",
    "Worker",
    "find_durations",
    "longest_first",
    "read_manifest",
    "shard_of",
    "write_tables",
]
