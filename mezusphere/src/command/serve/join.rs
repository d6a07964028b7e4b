//! The flags of `mezusphere serve` by which an edge joins at its first start.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use mezusphere_model::join_token::JoinToken;

use crate::failure::{Failure, Kind};

/// Longest file with a join token, in octets.
const JOIN_FILE_LEN_MAX: u64 = 8 * 1024;

/// For role edge, at its first start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Joining (role edge, first start)")]
pub(super) struct JoinFlags {
    /// What `mezusphere edge invite` printed; good once.
    #[arg(
        long,
        env = "MEZUSPHERE_JOIN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "join_file"
    )]
    join: Option<String>,
    /// File with the join token; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
}

impl JoinFlags {
    /// The token, from wherever it was given; `None`: this edge has joined before.
    pub(super) fn token(self) -> Result<Option<JoinToken>, Failure> {
        let text = match (self.join, self.join_file) {
            (Some(text), _) => text,
            (None, Some(file)) => read_token(&file)?,
            (None, None) => return Ok(None),
        };
        let parsed = text.trim().parse().map_err(|why| {
            Failure::new(Kind::Usage, why).next("make one on a control node: mezusphere edge invite NAME")
        })?;
        Ok(Some(parsed))
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let unreadable = |why: io::Error| {
        Failure::new(Kind::Files, format!("cannot read {}: {why}", file.display())).next("check --join-file")
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        io::stdin().take(JOIN_FILE_LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        let open = std::fs::File::open(file).map_err(unreadable)?;
        open.take(JOIN_FILE_LEN_MAX).read_to_string(&mut text).map_err(unreadable)?;
    }
    Ok(text)
}
