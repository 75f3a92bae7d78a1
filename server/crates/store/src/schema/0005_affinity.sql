-- Whether a client stays with the dyno of its first request (the feature http-session-affinity).
ALTER TABLE apps ADD COLUMN session_affinity BIGINT NOT NULL DEFAULT 0;
