//! The journal: what was told lately, kept for whoever asks later (`warpgate logs`, `warpgate status`).
//!
//! Bounded in lines and in octets; the oldest go first. Unlike the printed output it does not depend on anybody
//! reading along.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mezusphere_model::Timestamp;
use tokio::sync::broadcast;

use super::event::Event;
use crate::limits::{JOURNAL_FOLLOW_MAX, JOURNAL_LATEST_MAX, JOURNAL_LEN_MAX, JOURNAL_LINES_MAX};

/// One event that was told, and when.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Arc<Event>,
    /// The same as a JSON line, without its line end.
    pub json: Arc<str>,
}

/// What was told lately. Cheap to clone; all clones are the same journal.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Entry>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Entry>,
    octets: usize,
    /// The newest of each subject, for as long as the process runs.
    latest: BTreeMap<String, Entry>,
}

/// Entries as they come, for one reader.
pub struct Following(broadcast::Receiver<Entry>);

impl Default for Journal {
    fn default() -> Self {
        let (live, _) = broadcast::channel(JOURNAL_FOLLOW_MAX);
        Self(Arc::new(Inner { kept: Mutex::default(), live }))
    }
}

impl Journal {
    pub(super) fn note(&self, at: Timestamp, event: &Event) {
        let json = super::json(at, event);
        let entry = Entry { at, event: Arc::new(event.clone()), json: json.trim_end().into() };
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = subject(event)
            && (kept.latest.len() < JOURNAL_LATEST_MAX || kept.latest.contains_key(&subject))
        {
            kept.latest.insert(subject, entry.clone());
        }
        kept.octets += entry.json.len();
        kept.lines.push_back(entry.clone());
        while kept.lines.len() > JOURNAL_LINES_MAX || (kept.octets > JOURNAL_LEN_MAX && kept.lines.len() > 1)
        {
            let gone = kept.lines.pop_front().map_or(0, |gone| gone.json.len());
            kept.octets -= gone;
        }
        // Sent under the lock, so that a reader that starts to follow misses nothing and gets nothing twice.
        drop(self.0.live.send(entry));
    }

    /// The newest `lines` entries, oldest first, and those that come from now on.
    pub fn follow(&self, lines: usize) -> (Vec<Entry>, Following) {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = kept.lines.len().saturating_sub(lines);
        (kept.lines.iter().skip(skipped).cloned().collect(), Following(self.0.live.subscribe()))
    }

    /// The newest event about `subject`: `control`, `key`, `certificate`, `edge ID` or `upstream NAME`.
    pub fn latest(&self, subject: &str) -> Option<Entry> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).latest.get(subject).cloned()
    }
}

impl Following {
    /// The next entry; `Err(n)`: `n` were missed, because they came faster than they were read. `None`: there will be
    /// no more. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Entry, u64>> {
        match self.0.recv().await {
            Ok(entry) => Some(Ok(entry)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// What an event is about, if only the newest of its kind says how things are.
fn subject(event: &Event) -> Option<String> {
    match event {
        Event::Control { .. } | Event::ControlFailed { .. } => Some("control".to_owned()),
        Event::Key { .. } => Some("key".to_owned()),
        Event::Certificate { .. } | Event::Renewed { .. } => Some("certificate".to_owned()),
        Event::EdgeConnected { edge, .. } | Event::EdgeFailed { edge, .. } | Event::EdgeLeft { edge, .. } => {
            Some(format!("edge {edge}"))
        }
        Event::UpstreamLost { upstream, .. } | Event::UpstreamBack { upstream, .. } => {
            Some(format!("upstream {upstream}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: impl Into<String>) -> Event {
        Event::Note { text: text.into() }
    }

    fn texts(entries: &[Entry]) -> Vec<String> {
        let text = |entry: &Entry| match &*entry.event {
            Event::Note { text } => text.clone(),
            _ => String::new(),
        };
        entries.iter().map(text).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_and_the_oldest_go() {
        let journal = Journal::default();
        for n in 0..JOURNAL_LINES_MAX + 5 {
            journal.note(Timestamp::from_seconds(0), &note(n.to_string()));
        }
        let (all, _) = journal.follow(usize::MAX);
        assert_eq!((all.len(), texts(&all[..1])), (JOURNAL_LINES_MAX, vec!["5".to_owned()]));
        let (last, _) = journal.follow(2);
        assert_eq!(texts(&last), [(JOURNAL_LINES_MAX + 3).to_string(), (JOURNAL_LINES_MAX + 4).to_string()]);
    }

    #[test]
    fn r23_large_events_cost_bounded_memory() {
        let journal = Journal::default();
        for _ in 0..40 {
            journal.note(Timestamp::from_seconds(0), &note("x".repeat(JOURNAL_LEN_MAX / 10)));
        }
        let (all, _) = journal.follow(usize::MAX);
        let octets: usize = all.iter().map(|entry| entry.json.len()).sum();
        assert!(octets <= JOURNAL_LEN_MAX && all.len() >= 9, "{octets} in {}", all.len());
    }

    #[tokio::test]
    async fn a_reader_that_follows_gets_each_line_once_and_hears_what_it_missed() {
        let journal = Journal::default();
        let at = Timestamp::from_seconds(0);
        journal.note(at, &note("before"));
        let (lines, mut following) = journal.follow(10);
        journal.note(at, &note("after"));
        assert_eq!(texts(&lines), ["before"]);
        assert_eq!(texts(&[following.next().await.unwrap().unwrap()]), ["after"]);
        for n in 0..JOURNAL_FOLLOW_MAX + 3 {
            journal.note(at, &note(n.to_string()));
        }
        assert_eq!(following.next().await.unwrap().unwrap_err(), 3);
        assert_eq!(texts(&[following.next().await.unwrap().unwrap()]), ["3"]);
        drop(journal);
        while let Some(next) = following.next().await {
            assert!(next.is_ok());
        }
    }

    #[test]
    fn the_newest_word_about_a_subject_stays() {
        let journal = Journal::default();
        let lost = |upstream: &str| Event::UpstreamLost {
            upstream: upstream.to_owned(),
            target: "http://a".to_owned(),
            code: "warpgate.upstream_refused",
            message: "refused".to_owned(),
            repeats: 0,
        };
        let at = Timestamp::from_seconds(0);
        journal.note(at, &lost("a"));
        journal.note(at, &Event::UpstreamBack { upstream: "a".into(), target: "http://a".into() });
        journal.note(at, &lost("b"));
        assert!(matches!(&*journal.latest("upstream a").unwrap().event, Event::UpstreamBack { .. }));
        assert!(matches!(&*journal.latest("upstream b").unwrap().event, Event::UpstreamLost { .. }));
        assert!(journal.latest("upstream c").is_none());
    }
}
