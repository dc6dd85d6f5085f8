-- Which GPU a launch was for, so that what was learnt can be looked at by model; empty for what was learnt before this was kept.
ALTER TABLE offer_failures ADD COLUMN gpu_type TEXT NOT NULL DEFAULT '';
