"""Affect signals in a notebook: `import affectstream; affectstream.replay("posts.jsonl", domain="market")`.

replay    posts in, a data frame of signals out      rows     the same row by row, without pandas
signals   what a log holds, now or as of a moment    frame    a data frame of rows
"""

from stream.notebook import frame, replay, rows, signals

__all__ = ["frame", "replay", "rows", "signals"]
