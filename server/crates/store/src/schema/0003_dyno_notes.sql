CREATE TABLE dyno_notes (app TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (app, key));
CREATE INDEX dyno_notes_by_key ON dyno_notes (key);
