-- When the certificate in use ends, which its facts (JSON) say too: what ends first is renewed first. NULL: none is in use, or it was
-- noted by a version that did not say.
ALTER TABLE acme_certificates ADD COLUMN ends_at BIGINT;
