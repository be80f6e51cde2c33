#!/usr/bin/env bash
# A PostgreSQL table of the export `videos`. The duckdb command reads the files; PGHOST, PGUSER, PGDATABASE say where the
# database is. The definition and the load are one transaction.
set -euo pipefail
pagehaul schema --for postgres --out videos | psql --quiet --no-psqlrc --single-transaction --set ON_ERROR_STOP=1

psql --quiet --no-psqlrc --csv --tuples-only --command \
    'SELECT region, count(*), sum(total_views_cnt) FROM product_videos GROUP BY region'
