-- A domain that changes hands: who proves a host that another project holds has it once that project has not shown its own
-- record for days.
-- What the holder's DNS record says; no secret. NULL: nobody has asked for one.
ALTER TABLE hosts ADD COLUMN token TEXT;
-- Since when every look has found the claim's record, and not the holder's.
ALTER TABLE host_claims ADD COLUMN contested_at BIGINT;
