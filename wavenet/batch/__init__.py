"""Many recordings or streams: side by side, in several processes, continued where an earlier run stopped."""
