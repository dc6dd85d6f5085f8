ALTER TABLE segments DROP COLUMN presumed;
