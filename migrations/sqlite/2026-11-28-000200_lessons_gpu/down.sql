ALTER TABLE offer_failures DROP COLUMN gpu_type;
