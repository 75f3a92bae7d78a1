CREATE TABLE aws_ledger (kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, owner, name));
CREATE TABLE aws_revision (revision BIGINT NOT NULL);
INSERT INTO aws_revision (revision) VALUES (0);
CREATE TABLE aws_slots (
    app TEXT NOT NULL, process_type TEXT NOT NULL, slot BIGINT NOT NULL, task TEXT NOT NULL UNIQUE,
    PRIMARY KEY (app, process_type, slot)
);
