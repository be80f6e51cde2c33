"""Bytes a row of each column in an export's files, and in files that pyarrow writes of the same rows in the same order.

    python benches/compare/bytes.py OUT     a table in Markdown; pyarrow with `compression="zstd"` and otherwise as it comes
"""
import glob, io, os, sys

import pyarrow as pa, pyarrow.parquet as pq


def add(columns, metadata):
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            entry = columns.setdefault(chunk.path_in_schema, [0, set()])
            entry[0] += chunk.total_compressed_size
            entry[1] |= set(chunk.encodings) - {"RLE", "PLAIN"} or {"PLAIN"}


rows, groups, ours, theirs, sizes = 0, 0, {}, {}, [0, 0]
files = sorted(glob.glob(f"{sys.argv[1]}/region=*/*.parquet"))
for file in files:
    again = io.BytesIO()
    pq.write_table(pq.ParquetFile(file).read(), again, compression="zstd")
    sizes[0] += os.path.getsize(file)
    sizes[1] += again.tell()
    written = pq.read_metadata(file)
    rows, groups = rows + written.num_rows, groups + written.num_row_groups
    add(ours, written)
    add(theirs, pq.read_metadata(again))

print(f"{rows:,} rows, {len(files)} files, {groups} row groups; pyarrow {pa.__version__}\n")
print("| column | encoding | B/row | pyarrow |\n|---|---|---|---|")
for name in sorted(ours, key=lambda name: -ours[name][0]):
    encoding = ", ".join(sorted(ours[name][1])).replace("RLE_DICTIONARY", "dictionary")
    print(f"| `{name}` | {encoding} | {ours[name][0] / rows:.2f} | {theirs[name][0] / rows:.2f} |")
for what, at in (("headers, footers, indexes", lambda of, size: size - sum(entry[0] for entry in of.values())),
                 ("**all**", lambda of, size: size)):
    print(f"| {what} | | {at(ours, sizes[0]) / rows:.2f} | {at(theirs, sizes[1]) / rows:.2f} |")
