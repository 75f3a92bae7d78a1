-- The server that has seen all that happened to the app's dynos; empty when no server alone has.
ALTER TABLE apps ADD COLUMN known_by TEXT;
