-- The servers that are alive, and the architecture that each of them builds for (NULL when it builds nothing).
CREATE TABLE servers (id TEXT PRIMARY KEY, builds TEXT, seen_at BIGINT NOT NULL);
