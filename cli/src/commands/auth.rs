//! `auth:*`: who you are to the platform.

pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod token;
pub(crate) mod whoami;
