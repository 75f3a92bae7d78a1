//! `git:*`: what git needs to push here.

pub(crate) mod credentials;
pub(crate) mod remote;
