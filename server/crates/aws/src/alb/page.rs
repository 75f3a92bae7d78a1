//! What a balancer answers itself.
//!
//! The same words as the router's pages, in the 1,024 bytes that AWS gives a fixed response.

use super::book::Page;

/// The most bytes of a fixed response.
#[cfg(test)]
const MOST: usize = 1024;

macro_rules! page {
    ($title:literal, $text:literal) => {
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
            $title,
            "</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;color:#333;background:#f7f8fb;margin:0}",
            "main{max-width:34em;margin:16vh auto 0;padding:0 1.5em}h1{font-size:1.6em;font-weight:500}",
            "</style>\n</head>\n<body>\n<main>\n<h1>",
            $title,
            "</h1>\n<p>",
            $text,
            "</p>\n</main>\n</body>\n</html>\n"
        )
    };
}

/// 404: what the listeners answer when no rule matches.
pub(crate) const NO_SUCH_APP: &str = page!(
    "No such app",
    "There is no app at this host name. Its owner may have renamed it, or the name may be misspelled."
);

impl Page {
    pub(crate) const ALL: [Self; 3] = [Self::Maintenance, Self::Blank, Self::NoWebDynos];

    /// Its HTML.
    pub(crate) const fn html(self) -> &'static str {
        match self {
            Self::Maintenance => page!(
                "Offline for Maintenance",
                "This application is being worked on and will be back. Please try again in a while."
            ),
            Self::Blank => page!(
                "There's nothing here, yet.",
                "This app has no release. Push some code, <code>git push aws main</code>, and it will answer here."
            ),
            Self::NoWebDynos => page!(
                "Application error",
                "The application could not answer this request. If it is yours, its log says why: <code>paas logs --tail</code>."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits_a_fixed_response() {
        for html in Page::ALL.map(Page::html).into_iter().chain([NO_SUCH_APP]) {
            assert!(html.len() <= MOST, "{} bytes: {html}", html.len());
        }
    }
}
