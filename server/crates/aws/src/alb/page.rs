//! What a balancer answers itself.

use paas_ports::pages::{BLANK, ERROR, MAINTENANCE};

use super::book::Page;

/// The most bytes of a fixed response.
#[cfg(test)]
const MOST: usize = 1024;

impl Page {
    pub(crate) const ALL: [Self; 3] = [Self::Maintenance, Self::Blank, Self::NoWebDynos];

    /// Its HTML.
    pub(crate) const fn html(self) -> &'static str {
        match self {
            Self::Maintenance => MAINTENANCE,
            Self::Blank => BLANK,
            Self::NoWebDynos => ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use paas_ports::pages::NO_SUCH_APP;

    use super::*;

    #[test]
    fn every_page_fits_a_fixed_response() {
        for html in Page::ALL.map(Page::html).into_iter().chain([NO_SUCH_APP]) {
            assert!(html.len() <= MOST, "{} bytes: {html}", html.len());
        }
    }
}
