-- What an app's images are to be built for (NULL as the platform has it), and what its services take their dynos from.
ALTER TABLE apps ADD COLUMN architecture TEXT;
ALTER TABLE apps ADD COLUMN capacity TEXT NOT NULL DEFAULT 'on_demand';
-- What an image is built for. Those from before were taken for this one.
ALTER TABLE images ADD COLUMN architecture TEXT NOT NULL DEFAULT 'x86_64';
