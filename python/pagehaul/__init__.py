"""Exports paged, rate-limited, paid list APIs to Parquet by the program `pagehaul`, which this package installs.

    import pagehaul

    summary = pagehaul.export(products="products.txt", out="videos", qps=10)
    videos = pagehaul.read("videos", regions=["ID", "TH"]).to_table()

`export` runs the program and raises an error for each of its exit codes except 0.
`read` needs pyarrow: `pip install pagehaul[arrow]`.
"""

from ._errors import (
    AccountError,
    BusyError,
    ContractError,
    IntegrityError,
    InternalError,
    Interrupted,
    LimitReached,
    NotReadable,
    PagehaulError,
    PartialError,
    ProgramNotFound,
    StorageError,
    TemporaryFailure,
    UsageError,
)
from ._export import Setting, export
from ._find import find_program
from ._read import read
from ._summary import Progress, Summary

__all__ = [
    "AccountError",
    "BusyError",
    "ContractError",
    "IntegrityError",
    "InternalError",
    "Interrupted",
    "LimitReached",
    "NotReadable",
    "PagehaulError",
    "PartialError",
    "ProgramNotFound",
    "Progress",
    "Setting",
    "StorageError",
    "Summary",
    "TemporaryFailure",
    "UsageError",
    "export",
    "find_program",
    "read",
]
