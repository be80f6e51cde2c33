{{ config(materialized = 'table') }}

select
    product_id,
    video_id,
    region,
    create_time as published_at,
    total_views_cnt as views,
    total_video_sale_cnt as units_sold,
    total_video_sale_gmv_amt as gmv,
    _fetched_at as fetched_at
from {{ source('pagehaul', 'videos') }}
