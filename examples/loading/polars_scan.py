"""The export `videos` as a lazy frame of Polars."""

import polars as pl

videos = pl.scan_parquet("videos/region=*/*.parquet", hive_schema={"region": pl.String})

by_region = videos.group_by("region").agg(pl.len(), pl.col("total_views_cnt").sum())
print(by_region.collect().write_csv(include_header=False))
