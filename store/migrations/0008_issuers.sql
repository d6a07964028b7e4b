-- Which CA issued a certificate: SHA-256 of the CA's own. NULL: noted by a version that did not say.
ALTER TABLE issued_certificates ADD COLUMN issuer BLOB;
