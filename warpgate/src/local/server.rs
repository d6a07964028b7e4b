//! Answers on the local control socket, until its task is ended.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::{Ask, Refused, View, place};
use crate::limits::{JOURNAL_LINES_MAX, LOCAL_CONNECTIONS_MAX, LOCAL_PATIENCE, LOCAL_REQUEST_LEN_MAX};
use crate::output::{Entry, plain};

/// Why there is no control socket. The warpgate works without.
#[derive(Debug, thiserror::Error)]
#[error("no control socket at {}: {}; `warpgate status` will not find this one", .0.display(), crate::key::reason(.1))]
pub struct LocalError(PathBuf, #[source] io::Error);

/// A socket that is listened on. Removed from the file system when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    /// Listens at `path`. What a process that is gone left there is removed, and its like in the same directory.
    ///
    /// # Errors
    /// [`LocalError`]; also if another process listens there.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        let failed = |why| LocalError(path.to_owned(), why);
        remove_dead(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Nobody can have connected in between who may not: the directory is this user's, and who asks is looked at.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers for ever. Dropped, every connection ends.
    pub async fn serve(self, view: Arc<View>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= LOCAL_CONNECTIONS_MAX {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) if is_allowed(&stream) => {
                        connections.spawn(converse(stream, Arc::clone(&view)));
                    }
                    Ok(_) => debug!("Another user asked on the control socket"),
                    Err(why) => {
                        debug!(%why, "Control socket cannot accept");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone with its directory.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Our own user, or root, who could read our memory anyway.
fn is_allowed(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == place::uid())
}

/// Removes sockets nobody listens on.
fn remove_dead(path: &Path) {
    let neighbours = path.parent().and_then(|directory| std::fs::read_dir(directory).ok());
    let neighbours = neighbours.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    for socket in neighbours.filter(|other| other.extension() == path.extension()).take(LOCAL_REQUEST_LEN_MAX)
    {
        let asked = std::os::unix::net::UnixStream::connect(&socket);
        if asked.is_err_and(|why| why.kind() == io::ErrorKind::ConnectionRefused) {
            drop(std::fs::remove_file(&socket));
        }
    }
}

async fn converse(mut stream: UnixStream, view: Arc<View>) {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read).take(u64::try_from(LOCAL_REQUEST_LEN_MAX).unwrap_or(u64::MAX));
    let mut line = String::new();
    if !matches!(timeout(LOCAL_PATIENCE, read.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let answered = match serde_json::from_str::<Ask>(&line) {
        Ok(Ask::Status) => send(&mut write, &to_line(&view.status())).await,
        Ok(Ask::Routes) => send(&mut write, &to_line(&view.routes().await)).await,
        Ok(Ask::Logs { lines, follow, text }) => {
            let gone = async {
                // The other side says nothing more; that it closes ends a reader that follows.
                let mut rest = [0; 16];
                while matches!(read.read(&mut rest).await, Ok(1..)) {}
            };
            tokio::select! {
                sent = logs(&mut write, &view, lines, follow, text) => sent,
                () = gone, if follow => Ok(()),
            }
        }
        Err(_) => {
            let refused = "this is not a question that this version answers".to_owned();
            send(&mut write, &to_line(&Refused { refused })).await
        }
    };
    if let Err(why) = answered {
        debug!(%why, "A local question was not answered to its end");
    }
}

async fn logs(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    view: &View,
    lines: usize,
    follow: bool,
    text: bool,
) -> io::Result<()> {
    let (kept, mut following) = view.journal().follow(lines.min(JOURNAL_LINES_MAX));
    for entry in &kept {
        send(write, &shown(entry, text)).await?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        match following.next().await {
            Some(Ok(entry)) => send(write, &shown(&entry, text)).await?,
            Some(Err(missed)) => {
                let said = format!("{missed} lines were skipped: they came faster than they were read");
                let line = if text { format!("{said}\n") } else { to_line(&Refused { refused: said }) };
                send(write, &line).await?;
            }
            None => return Ok(()),
        }
    }
}

fn shown(entry: &Entry, text: bool) -> String {
    if text { format!("{}  {}", entry.at, plain(&entry.event)) } else { format!("{}\n", entry.json) }
}

fn to_line(answer: &impl serde::Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_default() + "\n"
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), line: &str) -> io::Result<()> {
    timeout(LOCAL_PATIENCE, write.write_all(line.as_bytes())).await?
}
