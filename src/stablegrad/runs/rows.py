"""The records of a run as rows and as columns."""

from collections.abc import Iterable
from typing import Any, overload

import numpy as np


class Rows(list[dict[str, Any]]):
    """Records in the order they were written: a list of dicts, which also gives its columns as arrays.

    `rows[0]` is a record, `rows["step"]` a column: a float64 array [N] where its values are numbers (NaN where a
    record has none), else an object array. What a record holds as a list (a value a layer, say) is a column of lists.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(records)

    @property
    def columns(self) -> list[str]:
        """The names that occur, in the order of their first occurrence."""
        return list(dict.fromkeys(name for record in self for name in record))

    @overload  # type: ignore[override]
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> "Rows": ...
    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._column(key)
        found = super().__getitem__(key)
        return Rows(found) if isinstance(key, slice) else found

    def _column(self, name: str) -> np.ndarray:
        """KeyError, with the names that there are, where no record has it."""
        values = [record.get(name) for record in self]
        if all(value is None for value in values):
            raise KeyError(f"no record has '{name}'; there are {', '.join(self.columns) or 'no columns'}")
        if all(value is None or isinstance(value, int | float) for value in values):
            return np.array([np.nan if value is None else value for value in values], np.float64)
        column = np.empty(len(values), object)
        column[:] = values
        return column

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame. ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame.from_records(self, columns=self.columns)

    def to_polars(self) -> Any:
        """The same as a polars.DataFrame. ImportError where polars is not installed."""
        import polars

        return polars.DataFrame(list(self), infer_schema_length=None)

    def __repr__(self) -> str:
        return f"<{len(self)} rows: {', '.join(self.columns) or 'no columns'}>"
