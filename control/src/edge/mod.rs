//! Edges that are processes of their own: how one joins, is let in over its link, keeps its certificate and its address
//! current, comes back, and is shut out.
//!
//! Who may administer them is [`crate::use_case::edge`]'s.

mod admit;
pub(crate) mod entry;
mod join;
mod keep;
mod rejoin;

/// Longest version or region that is kept, in characters.
const WORDS_LEN_MAX: usize = 64;

/// What a node says of itself, fit to be shown.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS_LEN_MAX).collect()
}
