//! The DNS hook: a program of the operator's that sets and removes TXT records for dns-01.
//!
//! It is run as `PROGRAM present NAME VALUE` and `PROGRAM cleanup NAME VALUE`, with the same three in its environment as
//! `MEZU_DNS_ACTION`, `MEZU_DNS_NAME` and `MEZU_DNS_VALUE`, without a shell and without anything on standard input. Exit 0 means done.
//! It inherits the server's environment, where the credentials for a DNS provider live, but nothing of the server's own: a
//! variable that begins with `MEZU` is not handed on, because one of them holds the master key.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::dns::{DnsError, DnsFuture, DnsHook, DnsOutput, DnsRecord};

/// For one call: what a slow provider takes until all of its servers have a record.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// After the program has ended: something it left behind may hold its output open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Kept of what a call prints, the end of it, in octets: where a failure is told.
const OUTPUT_LEN_MAX: usize = 800;

/// Read at a time, in octets.
const READ_LEN: usize = 4096;

/// Variables of the server's own begin so.
const OWN: &str = "MEZU";

/// What a hook is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Present,
    Cleanup,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// A program that sets and removes records.
#[derive(Clone, Debug)]
pub(crate) struct HookProgram {
    program: PathBuf,
    timeout: Duration,
}

impl HookProgram {
    /// The program at this path; looked for when it is called.
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program, timeout: CALL_TIMEOUT }
    }

    async fn call(&self, action: Action, record: &DnsRecord) -> Result<DnsOutput, DnsError> {
        let mut running = Running::start(&self.program, action, record)?;
        let mut tail = Tail::default();
        match tokio::time::timeout(self.timeout, running.finish(&mut tail)).await {
            Err(_) => {
                running.end();
                Err(DnsError::TooSlow { seconds: self.timeout.as_secs(), output: tail.text() })
            }
            Ok(Err(why)) => Err(DnsError::NotStarted(why.to_string())),
            Ok(Ok(status)) if status.success() => Ok(tail.text()),
            Ok(Ok(status)) => Err(DnsError::Failed { status: status.to_string(), output: tail.text() }),
        }
    }
}

impl DnsHook for HookProgram {
    fn present<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a> {
        Box::pin(self.call(Action::Present, record))
    }

    fn cleanup<'a>(&'a self, record: &'a DnsRecord) -> DnsFuture<'a> {
        Box::pin(self.call(Action::Cleanup, record))
    }
}

/// A running program with whatever it has started. Ended when dropped.
struct Running {
    child: Child,
    /// The process group that is its own; `None` once it has ended.
    group: Option<Pid>,
}

impl Running {
    fn start(program: &Path, action: Action, record: &DnsRecord) -> Result<Self, DnsError> {
        let mut command = Command::new(program);
        let words = [action.word(), record.name.as_str(), record.value.as_str()];
        command.args(words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OWN) {
                command.env_remove(name);
            }
        }
        for (name, value) in ["MEZU_DNS_ACTION", "MEZU_DNS_NAME", "MEZU_DNS_VALUE"].into_iter().zip(words) {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that what it has started ends with it.
        command.process_group(0).kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|why| DnsError::NotStarted(format!("{}: {why}", program.display())))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Waits for its end and keeps the end of what it prints.
    async fn finish(&mut self, tail: &mut Tail) -> std::io::Result<ExitStatus> {
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let status = {
            let ended = self.child.wait();
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    biased;
                    part = read(&mut out) => tail.add(&part),
                    part = read(&mut err) => tail.add(&part),
                    status = &mut ended => break status?,
                }
            }
        };
        self.group = None;
        let rest = async {
            while out.is_some() || err.is_some() {
                tokio::select! {
                    part = read(&mut out) => tail.add(&part),
                    part = read(&mut err) => tail.add(&part),
                }
            }
        };
        // What it printed last; a process that it left behind is not waited for.
        let (Ok(()) | Err(_)) = tokio::time::timeout(OUTPUT_TIMEOUT, rest).await;
        Ok(status)
    }

    fn end(&mut self) {
        if let Some(group) = self.group.take() {
            // Gone already: nothing to end.
            let (Ok(()) | Err(_)) = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The next octets of a pipe; waits for ever once it is closed, so that the others are waited for.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(open) = pipe else { return std::future::pending().await };
    let mut part = vec![0; READ_LEN];
    match open.read(&mut part).await {
        Ok(len) if len > 0 => {
            part.truncate(len);
            part
        }
        _ => {
            *pipe = None;
            Vec::new()
        }
    }
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
        let over = self.0.len().saturating_sub(OUTPUT_LEN_MAX);
        self.0.drain(..over);
    }

    /// As it may be shown: in one line, without what disturbs a terminal.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A hook of these lines of shell.
    fn hook(lines: &str) -> (tempfile::TempDir, HookProgram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let hook = HookProgram::new(path);
        (dir, hook)
    }

    fn record() -> DnsRecord {
        DnsRecord { name: "_acme-challenge.shop.example".to_owned(), value: "a b;$(id)".to_owned() }
    }

    #[tokio::test]
    async fn a_hook_is_told_what_to_do_in_words_and_in_its_environment() {
        let (_dir, hook) = hook(
            r#"echo "$#|$1|$2|$3"; echo "$MEZU_DNS_ACTION|$MEZU_DNS_NAME|$MEZU_DNS_VALUE" >&2"#,
        );
        let said = hook.present(&record()).await.unwrap();
        assert!(said.contains("3|present|_acme-challenge.shop.example|a b;$(id)"), "{said}");
        assert!(said.contains(" present|_acme-challenge") || said.starts_with("present|_acme-challenge"), "{said}");
        let said = hook.cleanup(&record()).await.unwrap();
        assert!(said.contains("3|cleanup|_acme-challenge.shop.example|a b;$(id)"), "{said}");
    }

    #[tokio::test]
    async fn r25_a_hook_sees_no_variable_of_the_servers_own() {
        let (_dir, hook) = hook("env | cut -d= -f1 | grep ^MEZU | sort");
        let said = hook.present(&record()).await.unwrap();
        assert_eq!(said, "MEZU_DNS_ACTION MEZU_DNS_NAME MEZU_DNS_VALUE");
    }

    #[tokio::test]
    async fn a_hook_that_fails_says_how_and_its_last_words() {
        let (_dir, failing) = hook("seq 1 10000; printf 'no such\\033[31m zone\\n' >&2; exit 3");
        let why = failing.present(&record()).await.unwrap_err();
        let DnsError::Failed { status, output } = &why else { panic!("{why}") };
        assert!(status.contains('3'), "{status}");
        assert!(output.contains("no such [31m zone") && output.len() <= OUTPUT_LEN_MAX, "{output}");
        let missing = HookProgram::new("/nonexistent/hook".into());
        assert!(matches!(missing.present(&record()).await, Err(DnsError::NotStarted(_))));
    }

    #[tokio::test]
    async fn a_hook_that_does_not_end_is_ended_with_all_it_has_started() {
        let (dir, hook) = hook("echo begun; sleep 600 & echo $! > \"$(dirname \"$0\")/pid\"; wait");
        let hook = HookProgram { timeout: Duration::from_secs(2), ..hook };
        let why = hook.present(&record()).await.unwrap_err();
        assert_eq!(why, DnsError::TooSlow { seconds: 2, output: "begun".to_owned() });
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let place = format!("/proc/{}/stat", pid.trim());
        // A killed process may wait a moment for whoever adopts it.
        let gone = async {
            while std::fs::read_to_string(&place).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is gone");
    }

    #[tokio::test]
    async fn what_a_hook_leaves_running_is_not_waited_for() {
        let (_dir, hook) = hook("sleep 5 & echo done");
        let begun = tokio::time::Instant::now();
        assert_eq!(hook.present(&record()).await.unwrap(), "done");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
