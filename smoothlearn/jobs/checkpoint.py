"""A file of finished chunks: SQLite, so that a process killed at any moment leaves it whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from smoothlearn.jobs.assembly import Arrays

#: At most so much work of every worker is lost, besides what it was doing, if all is killed.
SECONDS = 1.0

_MARK = 0x736D6C63  # of the SQLite files that are checkpoints
_TABLES = (
    "CREATE TABLE identity (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE chunks (start INTEGER PRIMARY KEY, content BLOB NOT NULL, hash BLOB NOT NULL)",
)
_WHOSE = {
    "estimator": "of an estimator that was fitted otherwise, or has other parameters or other "
    "code; keep the fitted one, or fit it again on the same data with an int as random_state (None "
    "draws other noise in every fit)",
    "data": "of other rows X; pass those",
}


class Checkpoint:
    """The finished chunks of one job, in a file that nobody else can have open.

    Parameters
    ----------
    path : str or path
        A checkpoint, or a file to be made.
    classes : ndarray of shape (n_classes,)
        Labels are kept as positions in it.

    Raises
    ------
    ValueError
        If the file is no checkpoint.
    OSError
        If it cannot be made, read or written, or is in use.
    """

    def __init__(self, path: str | os.PathLike[str], classes: NDArray[Any]) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
            raise TypeError(f"checkpoint must be the path of a file, got {path!r}")
        place = os.fsdecode(path)
        self.path = place if os.path.isabs(place) else os.path.join(os.getcwd(), place)
        self.classes = classes
        self._written = monotonic()
        self._order = np.argsort(classes, kind="stable")
        _check_place(self.path)
        with self._explained():
            self._connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._explained():
                self._connection.commit()
        finally:
            self._connection.close()

    def claim(self, identity: dict[str, str]) -> None:
        """Keep the chunks of this job here.

        Raises
        ------
        ValueError
            If those of another are here.
        """
        with self._explained():
            kept = dict(self._connection.execute("SELECT name, value FROM identity"))
            if not kept:
                rows = list(identity.items())
                with self._transaction():
                    self._connection.executemany("INSERT INTO identity VALUES (?, ?)", rows)
                return
        for name, value in identity.items():
            if kept.get(name) != value:
                whose = _WHOSE.get(name, f"of a job with {name}={kept.get(name)}, not {value}")
                raise ValueError(f"checkpoint={self.path!r} is {whose}; or name another file")

    def chunks(self) -> Iterator[tuple[int, Arrays, dict[str, Any]]]:
        """What ``add`` was given."""
        with self._explained():
            for start, content, seal in self._connection.execute("SELECT * FROM chunks"):
                if seal != _seal(start, content):
                    raise self.damaged(f"the chunk at row {start}")
                yield start, *self._unpacked(content)

    def add(self, start: int, arrays: Arrays, facts: dict[str, Any]) -> None:
        """Keep a finished chunk: all of it, or nothing if the process is killed meanwhile.

        Those that are done within a second of each other are written at once.
        """
        content = self._packed(arrays, facts)
        with self._explained():
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute(
                "INSERT INTO chunks VALUES (?, ?, ?)", (start, content, _seal(start, content))
            )
            if monotonic() - self._written >= SECONDS:
                self._connection.commit()
                self._written = monotonic()

    def damaged(self, what: object) -> ValueError:
        """The error to raise for a file that does not hold what was written."""
        return ValueError(
            f"checkpoint={self.path!r} is damaged ({what}); remove it to start anew, or name "
            "another file"
        )

    def _open(self) -> None:
        if self._value("PRAGMA page_count") and self._value("PRAGMA application_id") != _MARK:
            raise self._foreign()
        self._value("PRAGMA locking_mode = EXCLUSIVE")
        with self._transaction():
            if self._value("PRAGMA application_id") != _MARK:
                self._connection.execute(f"PRAGMA application_id = {_MARK}")
                for table in _TABLES:
                    self._connection.execute(table)

    def _value(self, query: str) -> Any:
        return self._connection.execute(query).fetchone()[0]

    def _foreign(self) -> ValueError:
        return ValueError(
            f"checkpoint={self.path!r} is a file of something else and is left alone; name another"
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN EXCLUSIVE")
        with self._connection:
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the database as errors of the argument."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorname", "")
            named = f"checkpoint={self.path!r}"
            if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise BlockingIOError(
                    f"{named} is in use by another process; wait for it, or name another file"
                ) from error
            if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
                raise PermissionError(f"{named} cannot be written; name another file") from error
            if code.startswith("SQLITE_NOTADB"):
                raise self._foreign() from error
            if not isinstance(error, sqlite3.OperationalError):
                raise self.damaged(error) from error
            raise OSError(f"{named} failed: {error}; what it holds is kept") from error

    def _packed(self, arrays: Arrays, facts: dict[str, Any]) -> bytes:
        label = np.searchsorted(self.classes, arrays["label"], sorter=self._order)
        archive = io.BytesIO()
        np.savez(archive, **(arrays | {"label": self._order[label]}))
        return json.dumps(facts, default=_plain).encode() + b"\n" + archive.getvalue()

    def _unpacked(self, content: bytes) -> tuple[Arrays, dict[str, Any]]:
        facts, _, stored = content.partition(b"\n")
        with np.load(io.BytesIO(stored), allow_pickle=False) as file:
            arrays = dict(file)
        arrays["label"] = self.classes[arrays["label"]]
        told = json.loads(facts).items()
        return arrays, {name: tuple(v) if isinstance(v, list) else v for name, v in told}


def _seal(start: int, content: bytes) -> bytes:
    return hashlib.blake2b(start.to_bytes(8, "little", signed=True) + content).digest()


def _check_place(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"checkpoint={path!r}: there is no folder {folder!r}; make it first"
        )
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint={path!r} is a folder; name a file in it")


def _plain(value: Any) -> Any:
    return value.item()
