-- Time between two looks too far apart: billed as if it ran, owed at least nothing.
ALTER TABLE segments ADD COLUMN presumed BOOLEAN NOT NULL DEFAULT FALSE;
