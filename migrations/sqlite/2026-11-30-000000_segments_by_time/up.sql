-- Reports over a window are read by when a stretch is over; nothing is read by when it began.
DROP INDEX segments_by_time;
