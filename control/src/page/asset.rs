//! The files that pages refer to, each under a name that holds the hash of its content: a browser may keep it
//! for ever, and a new version has a new name.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A file of the pages.
pub(crate) struct Asset {
    stem: &'static str,
    extension: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: &'static str,
    path: LazyLock<String>,
}

static STYLESHEET: Asset = Asset {
    stem: "style",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    body: concat!(include_str!("../../../look/style.css"), include_str!("../../templates/style.css")),
    path: LazyLock::new(|| STYLESHEET.make_path()),
};

static ICON: Asset = Asset {
    stem: "icon",
    extension: "svg",
    content_type: "image/svg+xml",
    body: include_str!("../../templates/icon.svg"),
    path: LazyLock::new(|| ICON.make_path()),
};

/// All of them.
pub(crate) static ALL: [&Asset; 2] = [&STYLESHEET, &ICON];

impl Asset {
    fn make_path(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.body.as_bytes());
        let short = hash.as_ref().get(..12).unwrap_or_default();
        format!("/assets/{}-{}.{}", self.stem, URL_SAFE_NO_PAD.encode(short), self.extension)
    }

    /// Where it is served.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The asset served at `path`.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ALL.into_iter().find(|asset| asset.path() == path)
}

pub(crate) fn stylesheet_path() -> &'static str {
    STYLESHEET.path()
}

pub(crate) fn icon_path() -> &'static str {
    ICON.path()
}
