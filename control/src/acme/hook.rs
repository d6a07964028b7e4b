//! The DNS hook: a program of the operator's that sets and removes TXT records for dns-01.
//!
//! It is run as `PROGRAM present NAME VALUE` and `PROGRAM cleanup NAME VALUE`, with the same three in its environment as
//! `MEZU_DNS_ACTION`, `MEZU_DNS_NAME` and `MEZU_DNS_VALUE`, without a shell and without anything on standard input. Exit 0 means done.
//! It inherits the server's environment, where the credentials for a DNS provider live, but nothing of the server's own: a
//! variable that begins with `MEZU` is not handed on, because one of them holds the master key.

use std::io::{PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::oneshot;

use super::dns::{DnsError, DnsFuture, DnsHook, DnsOutput, DnsRecord};

/// For one call: what a slow provider takes until all of its servers have a record.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// After the program has ended: for what it printed last. Then whatever it has left behind is ended too.
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
        let not_started =
            |why: std::io::Error| DnsError::NotStarted(format!("{}: {why}", self.program.display()));
        let mut running = Running::start(&self.program, action, record).map_err(not_started)?;
        let status = match tokio::time::timeout(self.timeout, &mut running.status).await {
            Err(_) => {
                running.end();
                let output = running.tail().text();
                return Err(DnsError::TooSlow { seconds: self.timeout.as_secs(), output });
            }
            Ok(Ok(Ok(status))) => status,
            Ok(Ok(Err(why))) => return Err(not_started(why)),
            Ok(Err(gone)) => return Err(DnsError::NotStarted(gone.to_string())),
        };
        let output = running.tail().text();
        if status.success() {
            Ok(output)
        } else {
            Err(DnsError::Failed { status: status.to_string(), output })
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

/// A running program with whatever it has started: all of it is ended when this is dropped.
struct Running {
    /// Its process group; `None` once it was ended and may be somebody else's.
    group: Arc<Mutex<Option<Pid>>>,
    tail: Arc<Mutex<Tail>>,
    status: oneshot::Receiver<std::io::Result<ExitStatus>>,
}

impl Running {
    /// Starts it, with two threads that end with it: one reads what it prints, one waits for its end.
    fn start(program: &Path, action: Action, record: &DnsRecord) -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
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
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // A group of its own, so that what it has started ends with it.
        let child = command.process_group(0).spawn()?;
        // It holds our own ends for writing; while one is open the reader waits.
        drop(command);
        let group = Arc::new(Mutex::new(Some(Pid::from_child(&child))));
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (read_all, all_read) = mpsc::channel();
        let (ended, status) = oneshot::channel();
        let running = Self { group: Arc::clone(&group), tail: Arc::clone(&tail), status };
        thread::Builder::new().name("hook-output".to_owned()).spawn(move || {
            keep(reader, &tail);
            // Whoever waits for it may have given up.
            let (Ok(()) | Err(_)) = read_all.send(());
        })?;
        thread::Builder::new().name("hook-end".to_owned()).spawn(move || {
            let (Ok(()) | Err(_)) = ended.send(reap(child, &group, &all_read));
        })?;
        Ok(running)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        locked(&self.tail)
    }

    fn end(&self) {
        end_group(&mut locked(&self.group));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_group(group: &mut Option<Pid>) {
    if let Some(group) = *group {
        // Gone already: nothing to end.
        let (Ok(()) | Err(_)) = kill_process_group(group, Signal::KILL);
    }
}

/// Waits for the program's end and for what it printed last; then ends what it has left behind.
fn reap(
    mut child: Child,
    group: &Mutex<Option<Pid>>,
    all_read: &mpsc::Receiver<()>,
) -> std::io::Result<ExitStatus> {
    // Not taken from the system yet, so that its number, which the group goes by, is nobody else's.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(why) = waitid(WaitId::Pid(Pid::from_child(&child)), options) {
        if why != rustix::io::Errno::INTR {
            break;
        }
    }
    let (Ok(()) | Err(_)) = all_read.recv_timeout(OUTPUT_TIMEOUT);
    let mut group = locked(group);
    end_group(&mut group);
    *group = None;
    child.wait()
}

/// Keeps the end of what is printed, until nobody can print any more.
fn keep(mut from: PipeReader, tail: &Mutex<Tail>) {
    let mut part = vec![0; READ_LEN];
    loop {
        match from.read(&mut part) {
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(len) => locked(tail).add(part.get(..len).unwrap_or_default()),
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
        let (_dir, hook) =
            hook(r#"echo "$#|$1|$2|$3"; echo "$MEZU_DNS_ACTION|$MEZU_DNS_NAME|$MEZU_DNS_VALUE" >&2"#);
        let said = hook.present(&record()).await.unwrap();
        assert!(said.contains("3|present|_acme-challenge.shop.example|a b;$(id)"), "{said}");
        assert!(
            said.contains(" present|_acme-challenge") || said.starts_with("present|_acme-challenge"),
            "{said}"
        );
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
        is_gone(dir.path()).await;
    }

    /// Waits until the process whose number the hook noted is gone.
    async fn is_gone(dir: &Path) {
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
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
    async fn what_a_hook_leaves_running_is_ended_and_not_waited_for() {
        let (dir, hook) = hook("sleep 600 & echo $! > \"$(dirname \"$0\")/pid\"; echo done");
        assert_eq!(hook.present(&record()).await.unwrap(), "done");
        is_gone(dir.path()).await;
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_ends_its_hook() {
        let (dir, hook) = hook("echo $$ > \"$(dirname \"$0\")/pid\"; sleep 600");
        let record = record();
        let call = tokio::time::timeout(Duration::from_secs(2), hook.present(&record));
        assert!(call.await.is_err(), "it goes on");
        is_gone(dir.path()).await;
    }
}
