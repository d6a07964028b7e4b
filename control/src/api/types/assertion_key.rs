//! The keys that sign assertions. Their private halves are shown to nobody.

use serde::{Deserialize, Serialize};

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionKeyState {
    /// It is being made known, and signs nothing yet.
    Next,
    /// It signs.
    Current,
    /// It signs no more, and what it signed is still accepted.
    Retiring,
}

/// A key that signs assertions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionKey {
    /// Counts from 1.
    pub version: u32,
    /// Its id in the published key set.
    pub kid: String,
    /// Where it stands.
    pub state: AssertionKeyState,
    /// Since when it stands there.
    pub since: String,
    /// Of the next key: since when it is published everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

/// All of them, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionKeys {
    /// The keys.
    pub keys: Vec<AssertionKey>,
    /// Whether somebody asked for the next one to sign as soon as it is known.
    pub by_hand: bool,
    /// How long a key signs, in seconds.
    pub life_s: u64,
    /// How long it is published before and after, in seconds.
    pub overlap_s: u64,
}
