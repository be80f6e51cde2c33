"""A DuckLake table of the files of the export `videos`, where they are.

DuckLake adds a file as often as it is told to, and each time its rows are there once more. So ask it first which files it
has, as here; a load that is repeated then adds nothing.
"""

import json
import os
from pathlib import Path

import duckdb

database = duckdb.connect()
if "DUCKLAKE_EXTENSION" in os.environ:  # a file, for machines without network
    database.load_extension(os.environ["DUCKLAKE_EXTENSION"])
else:
    database.install_extension("ducklake")
    database.load_extension("ducklake")
database.execute("ATTACH 'ducklake:ducklake.db' AS lake (DATA_PATH 'ducklake-files')")
database.execute(
    "CREATE TABLE IF NOT EXISTS lake.videos AS FROM read_parquet('videos/region=*/*.parquet', "
    "hive_partitioning = true, hive_types = {'region': VARCHAR}) LIMIT 0"
)

manifests = [json.loads(path.read_text()) for path in sorted(Path("videos/_pagehaul/segments").glob("*.json"))]
files = [str(Path("videos", file["path"]).absolute()) for manifest in manifests for file in manifest["files"]]
known = {name for (name,) in database.execute("SELECT data_file FROM ducklake_list_files('lake', 'videos')").fetchall()}
for file in files:
    if file not in known:
        database.execute("CALL ducklake_add_data_files('lake', 'videos', ?, hive_partitioning => true)", [file])

for region, count, views in database.execute(
    "SELECT region, count(*), sum(total_views_cnt) FROM lake.videos GROUP BY region"
).fetchall():
    print("" if region is None else region, count, views, sep=",")
