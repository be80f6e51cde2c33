"""A Spark table over the files of the export `videos`, where they are."""

import subprocess
from pathlib import Path

from pyspark.sql import SparkSession

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()
printed = subprocess.run(
    ["pagehaul", "schema", "--for", "spark", "--out", Path("videos").absolute()],
    check=True, capture_output=True, text=True,
)
for statement in printed.stdout.split(";\n"):
    if statement.strip():
        spark.sql(statement)

rows = spark.sql("SELECT region, count(*), sum(total_views_cnt) FROM product_videos GROUP BY region")
for row in rows.collect():
    print(*("" if value is None else value for value in row), sep=",")
