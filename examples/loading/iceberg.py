"""An Iceberg table of the files of the export `videos`, where they are, with a catalog in SQLite.

`add_files` looks at no path: the export needs `--partition-in-files`, otherwise every region is null. It refuses files that
the table has already, so that a second run adds nothing twice.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

Path("iceberg").mkdir(exist_ok=True)
catalog = SqlCatalog("lake", uri="sqlite:///iceberg/catalog.db", warehouse=Path("iceberg").absolute().as_uri())
catalog.create_namespace_if_not_exists("lake")

manifests = [json.loads(path.read_text()) for path in sorted(Path("videos/_pagehaul/segments").glob("*.json"))]
files = [str(Path("videos", file["path"]).absolute()) for manifest in manifests for file in manifest["files"]]
schema = pq.read_schema(files[0])
if "region" not in schema.names:
    print("region is not in the files: export with --partition-in-files")
    schema = schema.append(pa.field("region", pa.string()))

videos = catalog.create_table_if_not_exists("lake.videos", schema)
if "region" in pq.read_schema(files[0]).names and not videos.spec().fields:
    with videos.update_spec() as spec:
        spec.add_identity("region")
known = {task.file.file_path for task in videos.scan().plan_files()}
videos.add_files([file for file in files if file not in known])

rows = videos.scan(selected_fields=("region", "total_views_cnt")).to_arrow()
by_region = rows.group_by("region").aggregate([([], "count_all"), ("total_views_cnt", "sum")])
for row in by_region.to_pylist():
    print(row["region"] or "", row["count_all"], row["total_views_cnt_sum"], sep=",")
