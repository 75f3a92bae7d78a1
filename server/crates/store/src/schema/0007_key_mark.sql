-- Tells the key that seals this installation's secrets from others (an HMAC of a constant under it).
ALTER TABLE installation ADD COLUMN key_mark TEXT;
