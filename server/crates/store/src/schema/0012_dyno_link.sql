-- Where the link of a one-off dyno leads that somebody attaches to: to the server that they were told to come to.
ALTER TABLE dynos ADD COLUMN link TEXT;
