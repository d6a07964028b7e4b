//! The product's programs as child processes: started, waited for, ended by pid, their output kept.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long a program may take to say what a test waits for.
pub const SAYS_WITHIN: Duration = Duration::from_secs(30);

/// Where cargo put a program of the workspace: beside the test's own folder.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let built =
        test.ancestors().nth(2).map(|dir| dir.join(name)).context("a test lies in target/<profile>/deps")?;
    anyhow::ensure!(
        built.exists(),
        "{} is not built; run `cargo build --workspace --bins --all-features` first",
        built.display()
    );
    Ok(built)
}

/// Runs `name` to its end; gives its exit code and all it said, both streams.
pub async fn run(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<(i32, String)> {
    let mut command = Command::new(path(name)?);
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(SAYS_WITHIN, command.output()).await;
    let output = ended.with_context(|| format!("{name} {} does not end", arguments.join(" ")))??;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ok((output.status.code().unwrap_or(-1), said))
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<usize>,
}

impl Program {
    /// Starts `name` with `arguments`; `environment` is added to the test's own.
    pub fn start(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_through(&[], name, arguments, environment)
    }

    /// Starts `name` as the last word of `way`, a command that runs another in its own place.
    pub fn start_through(
        way: &[&str],
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let program = path(name)?;
        let mut command = match way {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn(name, command)
    }

    /// Starts a program that is not of the workspace, such as an interpreter with a script.
    pub fn start_outside(program: &std::path::Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(&program.display().to_string(), command)
    }

    fn spawn(name: &str, mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (grow, grown) = watch::channel(0);
        let grow = Arc::new(grow);
        let out = child.stdout.take().context("piped")?;
        let err = child.stderr.take().context("piped")?;
        // Both end with the program.
        tokio::spawn(keep(out, Arc::clone(&lines), Arc::clone(&grow)));
        tokio::spawn(keep(err, Arc::clone(&lines), grow));
        Ok(Self { name: name.to_owned(), child, lines, grown })
    }

    /// Everything it has printed so far, both streams.
    pub fn output(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `wanted` accepts, from the start of the program on.
    pub async fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut grown = self.grown.clone();
        let search = async {
            loop {
                grown.borrow_and_update();
                if let Some(found) = self.output().into_iter().find(|line| wanted(line)) {
                    return Ok(found);
                }
                if grown.changed().await.is_err() {
                    // It has ended; what it said last may have come between the look and the wait.
                    let found = self.output().into_iter().find(|line| wanted(line));
                    return found.context("it ended without it");
                }
            }
        };
        let found =
            tokio::time::timeout(SAYS_WITHIN, search).await.context("time ran out").and_then(|found| found);
        found.with_context(|| {
            format!("{} never said {what}; it said:\n{}", self.name, self.output().join("\n"))
        })
    }

    /// Waits for a JSON line whose `event` is this.
    pub async fn event(&self, event: &str) -> anyhow::Result<Value> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let wanted =
            |line: &str| parse(line).is_some_and(|said| said.get("event").is_some_and(|e| e == event));
        let line = self.line(&format!("event {event}"), wanted).await?;
        parse(&line).context("a JSON line")
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Sends a signal by name: `TERM`, `INT`, `STOP`.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{signal}")).arg(self.pid()?.to_string()).status().await?;
        anyhow::ensure!(status.success(), "cannot signal {}", self.name);
        Ok(())
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits for its end, until all it said is there, and gives its exit code.
    pub async fn exit_code(&mut self) -> anyhow::Result<i32> {
        let ended = tokio::time::timeout(SAYS_WITHIN + SAYS_WITHIN, self.child.wait()).await;
        let status = ended.with_context(|| {
            format!("{} does not end; it said:\n{}", self.name, self.output().join("\n"))
        })??;
        // Both readers let go of the count at the end of what they read.
        let last_words = async { while self.grown.changed().await.is_ok() {} };
        let read = tokio::time::timeout(SAYS_WITHIN, last_words).await;
        read.with_context(|| format!("{} has ended, and its output has not", self.name))?;
        status.code().with_context(|| format!("{} was ended by a signal", self.name))
    }
}

async fn keep(from: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>, grow: Arc<watch::Sender<usize>>) {
    let mut from = BufReader::new(from).lines();
    while let Ok(Some(line)) = from.next_line().await {
        let count = {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line);
            lines.len()
        };
        grow.send_replace(count);
    }
}
