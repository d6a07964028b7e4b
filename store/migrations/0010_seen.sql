-- When the holder of a certificate first opened a link with it. NULL: never, as far as is known.
ALTER TABLE issued_certificates ADD COLUMN seen_at BIGINT;
