//! The local control socket: what a running `warpgate connect` tells `status`, `routes` and `logs` on the same machine.
//!
//! A Unix socket that only its user (and root) can open, one JSON line as question, JSON lines as answer:
//!
//! ```text
//! {"ask":"status"}                              one line: StatusReport
//! {"ask":"routes"}                              one line: RoutesReport
//! {"ask":"logs","lines":100,"follow":true}      one line for each event, then those that come
//! ```
//!
//! It only tells; nothing can be changed through it. An unknown question gets `{"refused":"…"}`.
//!
//! ```text
//! place      where the socket is              view       what the running process shows of itself
//! server     answers                          client     finds running warpgates and asks them
//! report     the answers, as they are on the wire
//! ```

pub mod client;
pub mod place;
pub mod report;
mod server;
mod view;

use serde::{Deserialize, Serialize};

pub use server::{LocalError, Socket};
pub use view::{Facts, View};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How it is doing.
    Status,
    /// What is published, and how the upstreams answer right now.
    Routes,
    /// What was told lately.
    Logs {
        /// How many of the newest events.
        lines: usize,
        /// Whether to go on with those that come.
        #[serde(default)]
        follow: bool,
        /// Lines for people instead of JSON.
        #[serde(default)]
        text: bool,
    },
}

/// That a question is not answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why, in a sentence.
    pub refused: String,
}
