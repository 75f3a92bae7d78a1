//! The pages that an ingress answers itself, in the same words on every platform.
//!
//! Each fits in the 1,024 bytes that AWS gives a fixed response.

macro_rules! page {
    ($title:literal, $text:literal) => {
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
            $title,
            "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;color:#333;background:#f7f8fb;margin:0}",
            "main{max-width:34em;margin:16vh auto 0;padding:0 1.5em}h1{font-size:1.6em;font-weight:500}",
            "code{background:#e9ebf2;padding:.1em .35em;border-radius:3px}</style>\n</head>\n<body>\n<main>\n<h1>",
            $title,
            "</h1>\n<p>",
            $text,
            "</p>\n</main>\n</body>\n</html>\n"
        )
    };
}

/// 404: no app has this host.
pub const NO_SUCH_APP: &str = page!(
    "No such app",
    "There is no app at this host name. Its owner may have renamed it, or the name may be misspelled."
);

/// Any other failure: Heroku's code is in the app's log.
pub const ERROR: &str = page!(
    "Application error",
    "The application could not answer this request. If it is yours, its log says why: <code>paas logs --tail</code>."
);

/// 503, H80.
pub const MAINTENANCE: &str = page!(
    "Offline for Maintenance",
    "This application is being worked on and will be back. Please try again in a while."
);

/// 503, H81: no release yet.
pub const BLANK: &str = page!(
    "There's nothing here, yet.",
    "This app has no release. Push some code, <code>git push aws main</code>, and it will answer here."
);
