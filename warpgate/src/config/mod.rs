//! The settings of `warpgate connect`: from flags, the environment, a file and defaults, and which of them each is from.
//!
//! ```text
//! file       the configuration file: TOML, the same names as the flags, unknown ones refused
//! merge      flag before environment before file before default
//! ```
//!
//! The key has an order of its own, see [`crate::key`].

mod file;
mod merge;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use mezusphere_model::slug::Slug;
use serde::{Deserialize, Serialize};

pub use file::{ConfigError, NAMES, read};
pub use merge::{Settings, merge};

use crate::upstream::{Declared, Setting};

/// Names of the settings, as in the file and, with `--` in front, on the command line.
pub mod name {
    /// A file that holds the connection key.
    pub const KEY_FILE: &str = "key-file";
    /// Where requests go.
    pub const UPSTREAM: &str = "upstream";
    /// The certificate authorities of an upstream.
    pub const UPSTREAM_CA: &str = "upstream-ca";
    /// The public key of an upstream.
    pub const UPSTREAM_PIN: &str = "upstream-pin";
    /// The name an upstream must prove.
    pub const UPSTREAM_SERVER_NAME: &str = "upstream-server-name";
    /// What an upstream is offered.
    pub const UPSTREAM_PROTOCOL: &str = "upstream-protocol";
    /// How an upstream's health is checked.
    pub const HEALTH_CHECK: &str = "health-check";
    /// Where certificate and key are kept.
    pub const STATE_DIR: &str = "state-dir";
    /// How events are printed.
    pub const OUTPUT: &str = "output";
    /// Where health checks are answered.
    pub const HEALTH: &str = "health";
    /// Whether to end when the platform cannot be reached.
    pub const EXIT_ON_FAILURE: &str = "exit-on-failure";
    /// Whether to end when an upstream does not answer at the start.
    pub const REQUIRE_ORIGIN: &str = "require-origin";
    /// What is logged.
    pub const LOG: &str = "log";
    /// The HTTP proxy on the way to the platform.
    pub const PROXY: &str = "proxy";
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Output {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What one place says, a command line with its environment or a file. Not set: nothing.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `key-file`.
    pub key_file: Option<PathBuf>,
    /// `upstream`, with what is said in the same breath.
    pub upstreams: Vec<Declared>,
    /// What is said of upstreams by name: `upstream-ca`, `upstream-pin`, `health-check` and so on.
    pub said: Vec<(Slug, Setting)>,
    /// `state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `output`.
    pub output: Option<Output>,
    /// `health`.
    pub health: Option<SocketAddr>,
    /// `exit-on-failure`.
    pub exit_on_failure: Option<bool>,
    /// `require-origin`.
    pub require_origin: Option<bool>,
    /// `log`.
    pub log: Option<String>,
    /// `proxy`.
    pub proxy: Option<String>,
    /// Which settings come from elsewhere than the place itself: from the environment.
    pub sources: BTreeMap<&'static str, Source>,
}

/// A setting as it is shown: secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// What is in force; empty: nothing.
    pub value: String,
    /// Who says so.
    pub source: Source,
}
