//! The page: one answer with its style and its program in it, which loads nothing from elsewhere.

use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const PROGRAM: &str = include_str!("../page/page.js");

/// The page, and the policy under which a browser runs this program and style and no others.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) html: String,
    pub(crate) policy: HeaderValue,
}

impl Page {
    pub(crate) fn new() -> Self {
        let html = PAGE.replacen("/*style*/", STYLE, 1).replacen("/*program*/", PROGRAM, 1);
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data: blob:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(PROGRAM),
            hash(STYLE)
        );
        Self { html, policy: policy.try_into().expect("it is plain text") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        let html = Page::new().html;
        assert!(html.contains(STYLE) && html.contains(PROGRAM));
        for other in ["http:", "https:", "//cdn", "@import", "url(", "innerHTML", "style=\"", "onclick="] {
            assert!(!html.contains(other), "{other}");
        }
    }
}
