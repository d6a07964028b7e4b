//! The mail server of the tests (`tests/clients/smtp_server.py`), as a child process whose mails can be waited for.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::clients;
use crate::program::Program;

/// A running mail server. Killed when dropped.
#[derive(Debug)]
pub struct MailServer {
    program: Program,
    folder: PathBuf,
    ready: Value,
}

impl MailServer {
    /// Starts one that keeps its certificate, and every mail it takes, in `folder`; without TLS it listens on `port`,
    /// 0 for any.
    pub async fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = root.join("clients/smtp_server.py").display().to_string();
        let (place, port) = (folder.display().to_string(), port.to_string());
        let words = ["-B", &script, "--folder", &place, "--port", &port];
        let program = Program::start_outside(&clients::interpreter()?, &words)?;
        let ready = program.event("ready").await?;
        Ok(Self { program, folder: folder.to_owned(), ready })
    }

    /// The port of one of its ways: `plain`, `starttls`, `demanding` (STARTTLS and a password), `implicit` (TLS and a
    /// password).
    pub fn port(&self, way: &str) -> anyhow::Result<u16> {
        let port = self.ready.get(way).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        port.with_context(|| format!("it has no way {way}"))
    }

    /// The authority of its certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("mail-ca.pem")
    }

    /// What `mezusphere serve --mail` is given to send here without TLS.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(format!("smtp://127.0.0.1:{}?tls=none", self.port("plain")?))
    }

    /// The file it appends every mail to, a JSON line each.
    pub fn file(&self) -> PathBuf {
        self.folder.join("mails.jsonl")
    }

    /// Waits for the `nth` mail to this address, from 1.
    pub async fn mail_to(&self, address: &str, nth: u64) -> anyhow::Result<Value> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let wanted = |line: &str| {
            parse(line).is_some_and(|mail| {
                let says = |place: &str, value: Value| mail.pointer(place) == Some(&value);
                says("/event", "mail".into())
                    && says("/nth", nth.into())
                    && says("/recipients/0", address.into())
            })
        };
        let line = self.program.line(&format!("mail {nth} to {address}"), wanted).await?;
        parse(&line).context("a JSON line")
    }

    /// Goes away at once, as a server that crashes.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.program.kill().await
    }
}
