-- What an app's log was last told of a pass that failed, with the wish that it was about in front.
ALTER TABLE apps ADD COLUMN told TEXT;
-- The newest build when it was last looked which images nothing names.
ALTER TABLE apps ADD COLUMN images_of TEXT;
