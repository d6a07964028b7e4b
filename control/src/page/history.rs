//! The page of what happened with an account.

use askama::Template;

use super::text::fill;
use super::{Chrome, Moment, agent};

/// Some of what happened, the latest first.
#[derive(Template)]
#[template(path = "history.html")]
pub(crate) struct History {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    pub(crate) events: Vec<Event>,
    /// Where older ones are.
    pub(crate) older: Option<String>,
    /// Whether newer ones are left out.
    pub(crate) is_first: bool,
}

/// Something that happened.
pub(crate) struct Event {
    /// Its code.
    pub(crate) outcome: String,
    pub(crate) at: Moment,
    pub(crate) address: String,
    pub(crate) agent: String,
}

impl History {
    fn what(&self, event: &Event) -> String {
        let t = &self.chrome.t.account;
        let words = match event.outcome.as_str() {
            "signed_in" => t.event_signed_in,
            "wrong_password" => t.event_wrong_password,
            "refused" => t.event_refused,
            "signed_out" => t.event_signed_out,
            "password_changed" => t.event_password_changed,
            "email_changed" => t.event_email_changed,
            "recovered" => t.event_recovery,
            "stepped_up" => t.event_confirmed,
            "session_ended" => t.event_session_ended,
            other => return fill(t.event_other, &other.replace('_', " ")),
        };
        words.to_owned()
    }

    /// Whether it deserves a second look.
    fn is_odd(event: &Event) -> bool {
        matches!(event.outcome.as_str(), "wrong_password" | "refused")
    }

    fn place(&self, event: &Event) -> String {
        let browser = agent::in_words(&event.agent, self.chrome.t);
        if event.address.is_empty() { browser } else { format!("{browser}, {}", event.address) }
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{at, branded, plain};
    use super::*;

    impl Page for History {
        fn sample() -> Vec<(&'static str, Self)> {
            let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
            let event = |outcome: &str, age: i64, address: &str, agent: &str| Event {
                outcome: outcome.to_owned(),
                at: at(-age),
                address: address.to_owned(),
                agent: agent.to_owned(),
            };
            let events = || {
                vec![
                    event("signed_in", 60, "192.0.2.7", firefox),
                    event("wrong_password", 4_000, "2001:db8:85a3:8d3:1319:8a2e:370:7348", "curl/8.5.0"),
                    event("password_changed", 90_000, "192.0.2.7", firefox),
                    event("some_later_outcome", 400_000, "", ""),
                ]
            };
            let page = |chrome, events, older: Option<&str>, is_first| Self {
                chrome,
                base: "/account/dir_1".to_owned(),
                events,
                older: older.map(str::to_owned),
                is_first,
            };
            vec![
                ("account-history", page(plain(), events(), Some("/account/dir_1/history?before=x"), true)),
                ("account-history-last", page(branded(), events(), None, false)),
                ("account-history-none", page(plain(), Vec::new(), None, true)),
            ]
        }
    }
}
