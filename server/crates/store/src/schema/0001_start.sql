CREATE TABLE installation (id TEXT PRIMARY KEY, created_at BIGINT NOT NULL);
CREATE TABLE accounts (id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, created_at BIGINT NOT NULL);
CREATE TABLE authorizations (
    id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), token_hash TEXT NOT NULL UNIQUE,
    token_hint TEXT NOT NULL, description TEXT NOT NULL, scope TEXT NOT NULL, session BIGINT NOT NULL,
    expires_at BIGINT, created_at BIGINT NOT NULL
);
CREATE TABLE apps (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL REFERENCES accounts (id),
    maintenance BIGINT NOT NULL, generation BIGINT NOT NULL, settled_generation BIGINT NOT NULL,
    look_again_at BIGINT, lease_owner TEXT, lease_until BIGINT, fence BIGINT NOT NULL, failed_passes BIGINT NOT NULL DEFAULT 0,
    current_release TEXT, head_config TEXT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    released_at BIGINT, deleted_at BIGINT
);
CREATE UNIQUE INDEX apps_name ON apps (name) WHERE deleted_at IS NULL;
CREATE TABLE config_versions (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), sealed {BYTES} NOT NULL, created_at BIGINT NOT NULL
);
CREATE INDEX config_versions_app ON config_versions (app);
CREATE TABLE images (
    app TEXT NOT NULL REFERENCES apps (id), id TEXT NOT NULL, process_types TEXT NOT NULL, builder TEXT NOT NULL, size BIGINT NOT NULL,
    description TEXT, created_at BIGINT NOT NULL, PRIMARY KEY (app, id)
);
CREATE TABLE builds (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), commit_id TEXT, branch TEXT, source_key TEXT,
    status TEXT NOT NULL, reason TEXT, output TEXT NOT NULL, image TEXT, release_id TEXT, account TEXT NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
);
CREATE INDEX builds_app ON builds (app, created_at);
CREATE TABLE releases (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), version BIGINT NOT NULL, status TEXT NOT NULL,
    image TEXT, config TEXT NOT NULL, process_types TEXT NOT NULL, description TEXT NOT NULL, account TEXT NOT NULL,
    build TEXT, output TEXT, commit_id TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (app, version)
);
CREATE TABLE formation (
    app TEXT NOT NULL REFERENCES apps (id), process_type TEXT NOT NULL, id TEXT NOT NULL, quantity BIGINT NOT NULL, size TEXT NOT NULL,
    restart BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (app, process_type)
);
CREATE TABLE services (
    app TEXT NOT NULL REFERENCES apps (id), process_type TEXT NOT NULL, attachment TEXT, target_release BIGINT,
    serving_release BIGINT, state TEXT NOT NULL, reason TEXT, crashes BIGINT NOT NULL, next_try_at BIGINT,
    updated_at BIGINT NOT NULL, PRIMARY KEY (app, process_type)
);
CREATE TABLE dynos (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), process_type TEXT NOT NULL, slot BIGINT NOT NULL,
    kind TEXT NOT NULL, release BIGINT NOT NULL, size TEXT NOT NULL, command TEXT NOT NULL, state TEXT NOT NULL,
    exit_code BIGINT, attach BIGINT NOT NULL, tty BIGINT NOT NULL, attach_hash TEXT UNIQUE, sealed_env {BYTES}, job TEXT, stop_requested_at BIGINT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, ended_at BIGINT
);
CREATE UNIQUE INDEX dynos_slot ON dynos (app, process_type, slot) WHERE ended_at IS NULL;
CREATE INDEX dynos_app ON dynos (app, ended_at);
CREATE TABLE domains (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), hostname TEXT NOT NULL, kind TEXT NOT NULL, created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX domains_hostname ON domains (hostname);
CREATE TABLE branches (
    app TEXT NOT NULL REFERENCES apps (id), name TEXT NOT NULL, commit_id TEXT NOT NULL, updated_at BIGINT NOT NULL,
    PRIMARY KEY (app, name)
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, queue TEXT NOT NULL, kind TEXT NOT NULL, app TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL,
    step TEXT NOT NULL, memo TEXT NOT NULL, attempts BIGINT NOT NULL, run_at BIGINT NOT NULL, lease_owner TEXT, lease_until BIGINT,
    fence BIGINT NOT NULL, error TEXT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX jobs_queue ON jobs (queue) WHERE state = 'running';
CREATE INDEX jobs_due ON jobs (state, run_at);
CREATE INDEX jobs_app ON jobs (app);
CREATE TABLE outputs (id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), token_hash TEXT NOT NULL UNIQUE, sealed_token {BYTES} NOT NULL, created_at BIGINT NOT NULL);
CREATE INDEX outputs_app ON outputs (app);
CREATE TABLE sources (
    id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (id), app TEXT REFERENCES apps (id), token_hash TEXT NOT NULL UNIQUE,
    uploaded BIGINT NOT NULL, expires_at BIGINT NOT NULL
);
CREATE TABLE log_sessions (
    id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), token_hash TEXT NOT NULL UNIQUE, query TEXT NOT NULL, expires_at BIGINT NOT NULL
);
