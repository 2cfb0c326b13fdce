"""Parts with their scores, as JSON lines or as an Arrow stream; each part is sent as soon as it is scored."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa

from gapsel import corpus
from gapsel.errors import DataError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from gapsel.stream.inputs import Form


class Output(Protocol):
    """Where scored rows go."""

    def write(self, part: corpus.Part, at: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """Send the rows ``at`` of a part, of all of which the scores are given."""
        ...

    def close(self) -> None:
        """Say that this was all. What is left unsaid, after an error, tells a reader that rows are missing."""
        ...


def output(form: Form, stream: BinaryIO) -> Output:
    """Return the output of this form."""
    return ArrowOutput(stream) if form == "arrow" else JsonOutput(stream)


@contextmanager
def sending() -> Iterator[None]:
    """Raise ResourceError for a stream that cannot be written; a reader that has left is its own to tell."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        msg = (
            f"standard output: cannot be written ({error.strerror or error}): free some space where it goes, and score "
            "again what has not passed"
        )
        raise ResourceError(msg) from error


class JsonOutput:
    """One JSON object a line: the user's own fields, and the score."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, part: corpus.Part, at: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """See Output."""
        self._stream.writelines(part.json(at, scores))
        self._stream.flush()

    def close(self) -> None:
        """See Output."""
        self._stream.flush()


class ArrowOutput:
    """An Arrow IPC stream: the user's own columns, and the score. All parts have the columns of the first."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema = None

    def write(self, part: corpus.Part, at: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """See Output. Raises DataError for a part with other columns than the first."""
        batch = corpus.with_column(part.table(), corpus.SCORE, pa.array(scores)).take(pa.array(at))
        if self._writer is None:
            self._writer, self._schema = pa.ipc.new_stream(self._stream, batch.schema), batch.schema
        if batch.schema != self._schema:
            msg = (
                f"{part.source}: its columns ({', '.join(batch.schema.names)}) are not those of the inputs before it "
                f"({', '.join(self._schema.names)}) or of other types, and an Arrow stream has one kind: score it by "
                "itself, or take --format jsonl"
            )
            raise DataError(msg)
        self._writer.write_batch(batch)
        self._stream.flush()

    def close(self) -> None:
        """See Output."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._stream, pa.schema([pa.field(corpus.SCORE, pa.float64())]))
        self._writer.close()
        self._stream.flush()
