//! Tells the service manager how far this process is: the datagrams of `sd_notify(3)`, made by hand.
//!
//! Does nothing where there is no service manager (`NOTIFY_SOCKET` is not set).

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::limits::NOTIFY_PATIENCE;
use crate::local::View;
use crate::local::report::Phase;

/// Longest line of status that is sent, in octets.
const STATUS_LEN_MAX: usize = 200;

/// The way to the service manager. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    /// How long it may hear nothing of us.
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says; `variable` reads it.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(place) = variable("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
            return Self::default();
        };
        let bytes = place.as_bytes();
        // A name in the abstract name space is written with `@` for its first octet, which is 0.
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&place),
        };
        let connected = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours);
        Self { socket: connected.ok().map(Arc::new), watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Whether anybody listens.
    pub fn is_wanted(&self) -> bool {
        self.socket.is_some()
    }

    /// That settings are read again; [`Notify::ready`] says that it is done.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// That the start, or reading the settings again, is done.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    fn say(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // A service manager that does not read must not stop us.
            drop(socket.send(what.as_bytes()));
        }
    }

    /// Keeps it informed for as long as it is polled: when the start is done, what is going on, that we are alive, and
    /// when we stop. All I/O is on one thread, so a thread that hangs is silent here too.
    pub async fn keep(self, view: Arc<View>) {
        if !self.is_wanted() {
            return;
        }
        let beat = async {
            let Some(every) = self.watchdog.map(|longest| longest / 2) else {
                return std::future::pending().await;
            };
            loop {
                self.say("WATCHDOG=1");
                sleep(every).await;
            }
        };
        let (_, mut news) = view.journal().follow(0);
        let mut told = String::new();
        let mut is_ready = false;
        let tell = async {
            let patience = sleep(NOTIFY_PATIENCE);
            tokio::pin!(patience);
            loop {
                let status = view.status();
                let text = summary(status.phase, &status.troubles);
                if text != told {
                    self.say(&format!("STATUS={text}"));
                    told = text;
                }
                match status.phase {
                    Phase::Ready if !is_ready => {
                        is_ready = true;
                        self.ready();
                    }
                    Phase::Draining => {
                        self.say("STOPPING=1");
                        return std::future::pending::<()>().await;
                    }
                    _ => {}
                }
                tokio::select! {
                    next = news.next() => if next.is_none() { return },
                    () = &mut patience, if !is_ready => {
                        is_ready = true;
                        self.ready();
                    }
                }
            }
        };
        tokio::join!(beat, tell);
    }
}

/// One line for `systemctl status`.
fn summary(phase: Phase, troubles: &[String]) -> String {
    let mut text = phase.as_str().to_owned();
    for trouble in troubles.iter().filter(|trouble| *trouble != phase.as_str()) {
        text.push_str("; ");
        text.push_str(trouble);
    }
    let mut text = crate::output::clean(&text);
    let end =
        text.char_indices().map(|(at, _)| at).take_while(|at| *at <= STATUS_LEN_MAX).last().unwrap_or(0);
    if text.len() > STATUS_LEN_MAX {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn listening() -> (tempfile::TempDir, UnixDatagram, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, socket, path)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let read = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    }

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
        let all: HashMap<_, _> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        move |name| all.get(name).cloned()
    }

    #[test]
    fn a_service_manager_hears_what_it_asked_for_and_nobody_else_does() {
        let (_directory, socket, path) = listening();
        let notify = Notify::from_environment(environment(&[("NOTIFY_SOCKET", &path)]));
        notify.reloading();
        notify.ready();
        assert_eq!((heard(&socket).as_str(), heard(&socket).as_str()), ("RELOADING=1", "READY=1"));
        assert!(notify.watchdog.is_none());
        assert!(!Notify::from_environment(environment(&[])).is_wanted());
        assert!(!Notify::from_environment(environment(&[("NOTIFY_SOCKET", "/nonexistent/x")])).is_wanted());
    }

    #[test]
    fn an_abstract_socket_is_reached_too() {
        let name = format!("mezu-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Notify::from_environment(environment(&[("NOTIFY_SOCKET", &format!("@{name}"))])).ready();
        assert_eq!(heard(&socket), "READY=1");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let (_directory, _socket, path) = listening();
        let with = |pid: &str| {
            let pairs =
                [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", pid)];
            Notify::from_environment(environment(&pairs)).watchdog
        };
        assert_eq!(with(&std::process::id().to_string()), Some(Duration::from_secs(30)));
        assert_eq!(with("1"), None);
    }

    #[test]
    fn the_status_line_is_short_and_one_line() {
        let troubles = ["connected\nREADY=1".to_owned(), "é".repeat(STATUS_LEN_MAX)];
        let text = summary(Phase::Connecting, &troubles);
        assert!(text.starts_with("no edge is connected; connected?READY=1; é"), "{text}");
        assert!(text.len() <= STATUS_LEN_MAX && !text.contains('\n'));
    }
}
