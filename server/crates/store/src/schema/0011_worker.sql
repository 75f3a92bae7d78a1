-- Which server has begun a step of which it holds something (a build's container, a dyno's link): it goes on with it while it is
-- alive.
ALTER TABLE jobs ADD COLUMN worker TEXT;
