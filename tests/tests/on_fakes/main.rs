//! What becomes of apps: the whole server in this process, with drivers that are fakes, and its rows and their effects
//! looked at directly.

mod crash_steps;
mod deploy_endings;
mod dynos;
mod leftovers;
mod line_exchange;
mod no_room;
mod procfile_bad_inputs;
mod refusals;
