//! Finds running warpgates and asks them. Blocking, with bounds: it is for commands that do nothing else.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::place::Places;
use super::report::StatusReport;
use super::{Ask, Refused};
use crate::limits::{LOCAL_ANSWER_LEN_MAX, LOCAL_PATIENCE, PROBE_MAX};

/// A warpgate that answers.
#[derive(Debug)]
pub struct Instance {
    socket: PathBuf,
    /// What it said when it was found.
    pub status: StatusReport,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that answer.
    pub running: Vec<Instance>,
    /// Sockets and directories of other users, which may belong to more.
    pub closed: usize,
}

/// Which one is meant.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Its process id, its id, or the end of its id.
    pub instance: Option<String>,
    /// The one that keeps its state here.
    pub state_dir: Option<PathBuf>,
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket.
    #[error("the warpgate does not answer: {}", crate::key::reason(.0))]
    Io(#[from] io::Error),
    /// It does not answer such questions.
    #[error("{0}")]
    Refused(String),
    /// What it answers is not what this version expects.
    #[error("the running warpgate answers in a form that this version does not know")]
    Unreadable,
}

impl Found {
    /// Everybody who answers.
    pub fn look(places: &Places, state_dir: Option<&Path>) -> Self {
        let (sockets, mut closed) = places.sockets(state_dir);
        let mut running = Vec::new();
        for socket in sockets {
            match ask(&socket, &Ask::Status) {
                Ok(status) => running.push(Instance { socket, status }),
                Err(AskError::Io(why)) if why.kind() == io::ErrorKind::PermissionDenied => closed += 1,
                Err(_) => {}
            }
        }
        Self { running, closed }
    }

    /// Leaves those that are meant.
    pub fn choose(&mut self, choice: &Choice) {
        let same = |kept: &str, asked: &Path| {
            let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            whole(Path::new(kept)) == whole(asked)
        };
        self.running.retain(|one| {
            let status = &one.status;
            let by_name = choice.instance.as_ref().is_none_or(|wanted| {
                status.pid.to_string() == *wanted
                    || status.instance.as_ref().is_some_and(|id| id.ends_with(wanted.as_str()))
            });
            let by_state = choice
                .state_dir
                .as_ref()
                .is_none_or(|wanted| status.state_dir.as_ref().is_some_and(|kept| same(kept, wanted)));
            by_name && by_state
        });
    }
}

impl Instance {
    /// Asks for one line.
    pub fn ask<T: DeserializeOwned>(&self, what: &Ask) -> Result<T, AskError> {
        ask(&self.socket, what)
    }

    /// Hands every line of the answer to `take`, until there are no more or `take` fails.
    pub fn lines(&self, what: &Ask, mut take: impl FnMut(&str) -> io::Result<()>) -> Result<(), AskError> {
        let stream = send(&self.socket, what)?;
        // Whoever follows waits for as long as nothing happens.
        let patience =
            if matches!(what, Ask::Logs { follow: true, .. }) { None } else { Some(LOCAL_PATIENCE) };
        stream.set_read_timeout(patience)?;
        for line in BufReader::new(stream).lines() {
            take(&line?)?;
        }
        Ok(())
    }
}

fn send(socket: &Path, what: &Ask) -> Result<UnixStream, AskError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(LOCAL_PATIENCE))?;
    let question = serde_json::to_string(what).map_err(|_| AskError::Unreadable)?;
    writeln!(stream, "{question}")?;
    Ok(stream)
}

fn ask<T: DeserializeOwned>(socket: &Path, what: &Ask) -> Result<T, AskError> {
    let stream = send(socket, what)?;
    // Routes are answered after their upstreams were asked.
    stream.set_read_timeout(Some(LOCAL_PATIENCE + PROBE_MAX + Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(stream.take(LOCAL_ANSWER_LEN_MAX)).read_line(&mut line)?;
    if let Ok(refused) = serde_json::from_str::<Refused>(&line) {
        return Err(AskError::Refused(refused.refused));
    }
    serde_json::from_str(&line).map_err(|_| AskError::Unreadable)
}
