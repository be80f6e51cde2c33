"""`read`: an export as a dataset, by its manifests.

A listing of files would show what a running export has not published yet, and what a replay has replaced.
"""

from __future__ import annotations

import json
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ._errors import NotReadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow import fs

_MANIFESTS = "_pagehaul/segments"
_FORMAT = 1
# The directory of rows without a value for the partition column.
_NULL = "__HIVE_DEFAULT_PARTITION__"
_WITHOUT_PYARROW = "pagehaul.read needs pyarrow: pip install 'pagehaul[arrow]'"


def read(
    out: str | PathLike[str],
    regions: str | Iterable[str | None] | None = None,
    columns: Iterable[str] | None = None,
    *,
    require_complete: bool = False,
    filesystem: fs.FileSystem | None = None,
) -> ds.Dataset:
    """Return a dataset of the published rows of an export; nothing is read before the dataset is.

    out: the directory of one export (a summary's `out`), a URL that pyarrow knows (s3://, gs://), or a path in `filesystem`.
    regions: values of the partition column; None among them is the rows without one. Only files of these are in the dataset.
    columns: those that the dataset has.
    require_complete: raise an error if the export is not complete. Otherwise it is read as far as it is published.

    The rows of one call belong together, also while the export runs. A replay removes files that it replaced: call this again.
    """
    try:
        import pyarrow.dataset as ds
        from pyarrow import fs
    except ImportError as error:
        raise ImportError(_WITHOUT_PYARROW) from error

    filesystem, root = (filesystem, fspath(out).rstrip("/")) if filesystem else _located(fs, fspath(out))
    manifests = list(_manifests(fs, filesystem, root, fspath(out)))
    if require_complete and not _exists(fs, filesystem, f"{root}/_SUCCESS"):
        message = f"{out} is not complete: it has no _SUCCESS"
        raise NotReadable(message)
    schema, partition = _schema(manifests)
    if columns is not None:
        schema = _of_columns(schema, columns)
    wanted = None if regions is None else {regions} if isinstance(regions, str) else set(regions)
    file_format = ds.ParquetFileFormat()
    fragments = []
    for file in {file["path"]: file for manifest in manifests for file in manifest["files"]}.values():
        value = _partition_value(file["path"], partition)
        if wanted is not None and value not in wanted:
            continue
        rows = None
        if partition in schema.names:
            rows = ds.field(partition).is_null() if value is None else ds.field(partition) == value
        path = f"{root}/{file['path']}"
        # In a bucket this would be a request for each file.
        if isinstance(filesystem, fs.LocalFileSystem) and not _exists(fs, filesystem, path):
            message = f"{path} is gone: a replay may have replaced it (call this again), or it was removed (`pagehaul verify`)"
            raise NotReadable(message)
        fragments.append(file_format.make_fragment(path, filesystem, rows, file_size=file["bytes"]))
    return ds.FileSystemDataset(fragments, schema, file_format, filesystem)


def _located(fs: Any, out: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a directory or a URL, and the path in it."""
    if "://" not in out:
        return fs.LocalFileSystem(), str(Path(out).absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(out)
    except ValueError as error:
        message = f"pyarrow knows no such URL as {out}: give a path, and its `filesystem` ({error})"
        raise NotReadable(message) from error
    return filesystem, path.rstrip("/")


def _exists(fs: Any, filesystem: fs.FileSystem, path: str) -> bool:
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def _manifests(fs: Any, filesystem: fs.FileSystem, root: str, out: str) -> Iterator[dict[str, Any]]:
    """Yield the manifests in order; there must be one."""
    names = [
        file.path
        for file in filesystem.get_file_info(fs.FileSelector(f"{root}/{_MANIFESTS}", allow_not_found=True))
        if file.base_name.endswith(".json") and file.base_name.removesuffix(".json").isdigit()
    ]
    if not names:
        raise NotReadable(_why_nothing(fs, filesystem, root, out))
    for name in sorted(names):
        with filesystem.open_input_stream(name) as stream:
            content = stream.read()
        try:
            manifest = json.loads(content)
            version = manifest["format"]
            is_whole = version != _FORMAT or _is_whole(manifest)
        except (ValueError, TypeError, KeyError):
            is_whole = False
        if not is_whole:
            message = f"{name} is damaged: `pagehaul verify` says what is"
            raise NotReadable(message)
        if version != _FORMAT:
            message = f"{name} has format {version}, which this version of the package does not know"
            raise NotReadable(message)
        yield manifest


def _is_whole(manifest: dict[str, Any]) -> bool:
    """Whether what is read of a manifest has the right types. Raises KeyError or TypeError if something is not there."""
    columns = all(isinstance(name, str) and isinstance(kind, str) for name, kind in manifest["columns"])
    files = all(isinstance(file["path"], str) and isinstance(file["bytes"], int) for file in manifest["files"])
    return columns and files and isinstance(manifest.get("partition") or "", str)


def _why_nothing(fs: Any, filesystem: fs.FileSystem, root: str, out: str) -> str:
    """Return why there is no manifest."""
    if _exists(fs, filesystem, f"{root}/_pagehaul/summary.json"):
        with filesystem.open_input_stream(f"{root}/_pagehaul/summary.json") as stream:
            summary = json.loads(stream.read())
        if summary["complete_since"] is not None or summary["rows"]["published"] > 0:
            return f"the files of {out} were removed (--keep)"
    inside = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
    if any(file.base_name == "_pagehaul" for file in inside):
        return f"nothing of {out} is published yet"
    if any(file.base_name.startswith("snapshot=") for file in inside):
        return f"{out} has snapshots: name one of them, {out}/snapshot=LABEL"
    return f"there is no export at {out}"


def _schema(manifests: list[dict[str, Any]]) -> tuple[pa.Schema, str]:
    """Return the columns of all manifests with the partition column, and that column's name."""
    import pyarrow as pa

    types = {
        "Utf8": pa.string(),
        "Int32": pa.int32(),
        "Int64": pa.int64(),
        "Float64": pa.float64(),
        'Timestamp(µs, "UTC")': pa.timestamp("us", tz="UTC"),
    }
    fields: dict[str, pa.Field] = {}
    partition = ""
    for manifest in manifests:
        for name, kind in manifest["columns"]:
            field = pa.field(name, types[kind]) if kind in types else None
            if field is None or fields.setdefault(name, field) != field:
                message = f"column {name} is {kind}, which is new to this version of the package or differs between segments"
                raise NotReadable(message)
        partition = manifest.get("partition") or partition
        for file in manifest["files"][:1]:  # manifests of early versions do not name the column
            partition = partition or unquote(file["path"].split("=")[0])
    if partition:
        fields.setdefault(partition, pa.field(partition, pa.string()))
    return pa.schema(list(fields.values())), partition


def _of_columns(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    import pyarrow as pa

    if isinstance(columns, str):
        message = "columns are several names: give a list"
        raise TypeError(message)
    columns = list(columns)
    if not columns:
        message = "columns names none: leave it out for all of them"
        raise ValueError(message)
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        message = f"no column {', '.join(unknown)}; the export has {', '.join(schema.names)}"
        raise ValueError(message)
    return pa.schema([schema.field(name) for name in columns])


def _partition_value(path: str, partition: str) -> str | None:
    """Return the partition column's value of a file: `region=a%20b/...` is of `a b`. A path of another form is refused."""
    directory, _, name = path.partition("/")
    column, separator, value = directory.partition("=")
    if not separator or unquote(column) != partition or "/" in name or "\\" in path or not name.endswith(".parquet"):
        message = f"a manifest names {path!r}, which is not a file of an export"
        raise NotReadable(message)
    return None if value == _NULL else unquote(value, errors="strict")
