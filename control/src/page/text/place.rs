//! The words for where somebody is signed in.

/// Browsers in words; their names are their own in every language.
pub(crate) struct Places {
    /// A browser, then a system.
    pub(crate) on: &'static str,
    pub(crate) unknown: &'static str,
    /// Something that is no browser, by its name.
    pub(crate) program: &'static str,
    /// In a browser's stead, for what was done to an account by those who run it.
    pub(crate) operator: &'static str,
}

/// English.
pub(super) const ENGLISH: Places = Places {
    on: "{} on {}",
    unknown: "An unknown browser",
    program: "{}, a program",
    operator: "An administrator",
};
