-- A DuckDB table of an export. Run it where the export `videos` is: duckdb videos.db < duckdb.sql
-- `pagehaul schema --for duckdb` prints the same with explicit columns.
CREATE OR REPLACE TABLE videos AS
FROM read_parquet('videos/region=*/*.parquet', hive_partitioning = true, hive_types = {'region': VARCHAR});

SELECT region, count(*), sum(total_views_cnt) FROM videos GROUP BY region;
