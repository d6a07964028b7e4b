//! What the program tells its user: events, printed as text for people or as JSON lines for machines.
//!
//! A thread of its own does the printing, because a terminal or pipe that stands still must not stop
//! traffic. The steady state is silent; the same failure again is counted, not printed.

mod event;
mod fold;
mod journal;
mod route_table;
mod text;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use mezusphere_model::{Clock, Timestamp};

pub use event::{Event, RouteLine, UpstreamState};
pub use journal::{Entry, Following, Journal};
pub use text::{Style, clean};

use crate::limits::OUTPUT_QUEUE_MAX;
use fold::Fold;

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text(Style),
    /// One JSON object per line, with stable event names.
    Json,
}

struct Line {
    at: Timestamp,
    event: Event,
}

/// Where events are reported. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Reporter {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
    fold: Arc<Fold>,
    journal: Journal,
    clock: Clock,
}

/// The printing thread. [`Console::finish`] waits for what was reported.
pub struct Console {
    thread: JoinHandle<()>,
}

impl Reporter {
    /// Starts printing to `out`; what ends the program goes to `err` as text, to `out` as JSON.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        format: Format,
        clock: Clock,
        out: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> std::io::Result<(Self, Console)> {
        let (lines, queue) = sync_channel(OUTPUT_QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || print(format, &queue, &count, Box::new(out), Box::new(err)))?;
        let (fold, journal) = (Arc::new(Fold::default()), Journal::default());
        Ok((Self { lines, dropped, fold, journal, clock }, Console { thread }))
    }

    /// What was reported lately.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Reports `event`. Dropped and counted if too many wait.
    pub fn tell(&self, event: Event) {
        let at = self.clock.now();
        self.journal.note(at, &event);
        if self.lines.try_send(Line { at, event }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports a failure of the kind `what`, unless it was reported lately; `event` gets how often
    /// it happened since without being reported.
    pub fn tell_failure(&self, what: &str, event: impl FnOnce(u32) -> Event) {
        if let Some(folded) = self.fold.failed(what, Instant::now()) {
            self.tell(event(folded));
        }
    }

    /// That `what` works again: its next failure is reported at once. `what` may be the start of several kinds.
    pub fn works(&self, what: &str) {
        self.fold.works(what);
    }
}

impl Console {
    /// Waits until everything is printed. All [`Reporter`]s must be gone.
    pub fn finish(self) {
        // A panic of the printing thread has nothing left to spoil.
        drop(self.thread.join());
    }
}

fn print(
    format: Format,
    queue: &Receiver<Line>,
    dropped: &AtomicU64,
    mut out: Box<dyn Write>,
    mut err: Box<dyn Write>,
) {
    for Line { at, event } in queue {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text = format!("{missing} lines were not printed, because the output did not take them");
            write(format, &mut out, &mut err, at, &Event::Note { text });
        }
        write(format, &mut out, &mut err, at, &event);
    }
}

fn write(format: Format, out: &mut dyn Write, err: &mut dyn Write, at: Timestamp, event: &Event) {
    let text = match format {
        Format::Text(style) => text::render(event, style),
        Format::Json => json(at, event),
    };
    let to_err = matches!((format, event), (Format::Text(_), Event::Error { .. }));
    let put = |to: &mut dyn Write| to.write_all(text.as_bytes()).and_then(|()| to.flush());
    // If nobody reads it any more, the program's work goes on without being told about.
    drop(if to_err { put(err) } else { put(out) });
}

/// `event` as it is printed for people, without colours. Ends with a line end.
pub fn plain(event: &Event) -> String {
    text::render(event, Style::Plain)
}

/// A duration in its largest fitting unit: `8 s`, `12 min`, `16 h`, `3 d`.
pub fn brief(seconds: u64) -> String {
    text::brief(std::time::Duration::from_secs(seconds))
}

fn json(at: Timestamp, event: &Event) -> String {
    #[derive(serde::Serialize)]
    struct Stamped<'a> {
        at: String,
        #[serde(flatten)]
        event: &'a Event,
    }
    let line = serde_json::to_string(&Stamped { at: at.to_string(), event });
    line.map(|line| line + "\n").unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A writer a test can look into.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn print_all(format: Format, events: Vec<Event>) -> (String, String) {
        let (out, err) = (Captured::default(), Captured::default());
        let clock = mezusphere_model::clock::ManualClock::at(Timestamp::from_seconds(0)).clock();
        let (reporter, console) = Reporter::start(format, clock, out.clone(), err.clone()).unwrap();
        for event in events {
            reporter.tell(event);
        }
        drop(reporter);
        console.finish();
        (out.text(), err.text())
    }

    fn fatal() -> Event {
        Event::Error {
            code: "key.unknown".into(),
            message: "the key is not known".into(),
            next: "ask".into(),
            exit: 10,
        }
    }

    #[test]
    fn json_lines_have_a_time_and_a_stable_name() {
        let (out, err) = print_all(Format::Json, vec![Event::Note { text: "a\nb".into() }, fatal()]);
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["event"], "note");
        assert_eq!(lines[0]["at"], "1970-01-01T00:00:00Z");
        assert_eq!((lines[1]["event"].as_str(), lines[1]["exit"].as_u64()), (Some("error"), Some(10)));
        assert_eq!(err, "");
    }

    #[test]
    fn as_text_the_last_word_goes_to_standard_error() {
        let (out, err) = print_all(Format::Text(Style::Plain), vec![fatal()]);
        assert_eq!(out, "");
        assert_eq!(err, "error: the key is not known\n  next: ask\n");
    }

    #[test]
    fn output_that_stands_still_stops_nobody_and_what_is_lost_is_counted() {
        struct Stuck(Receiver<()>, Captured);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let (Ok(()) | Err(_)) = self.0.recv(); // until the test lets go
                self.1.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (go, wait) = std::sync::mpsc::channel();
        let seen = Captured::default();
        let clock = mezusphere_model::clock::ManualClock::at(Timestamp::from_seconds(0)).clock();
        let out = Stuck(wait, seen.clone());
        let (reporter, console) =
            Reporter::start(Format::Text(Style::Plain), clock, out, std::io::sink()).unwrap();
        for n in 0..OUTPUT_QUEUE_MAX * 2 {
            reporter.tell(Event::Note { text: n.to_string() });
        }
        drop((go, reporter));
        console.finish();
        assert!(seen.text().contains("lines were not printed"), "{}", seen.text());
    }
}
