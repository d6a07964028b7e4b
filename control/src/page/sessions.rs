//! The page of the browsers somebody is signed in with.

use askama::Template;

use super::text::fill;
use super::{Chrome, Moment, agent};

/// All browsers, each to be signed out.
#[derive(Template)]
#[template(path = "sessions.html")]
pub(crate) struct Sessions {
    pub(crate) chrome: Chrome,
    /// The path of the account's pages.
    pub(crate) base: String,
    pub(crate) cards: Vec<SessionCard>,
    /// The form token of signing out all others; `None`: there are none.
    pub(crate) others: Option<String>,
    /// What was just done, to be told once.
    pub(crate) ended: Option<Ended>,
}

/// Which browsers were just signed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    One,
    Others,
}

/// A browser.
pub(crate) struct SessionCard {
    /// As it said what it is.
    pub(crate) agent: String,
    pub(crate) address: String,
    pub(crate) since: Moment,
    pub(crate) seen: Moment,
    pub(crate) until: Moment,
    /// The form token of signing it out; `None`: it is this one.
    pub(crate) form: Option<String>,
}

impl Sessions {
    fn browser(&self, card: &SessionCard) -> String {
        agent::in_words(&card.agent, self.chrome.t)
    }

    fn ended_text(&self) -> Option<&'static str> {
        let t = &self.chrome.t.account;
        self.ended.map(|ended| match ended {
            Ended::One => t.saved_session,
            Ended::Others => t.saved_others,
        })
    }

    fn from(&self, card: &SessionCard) -> String {
        fill(self.chrome.t.account.session_from, &card.address)
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{FORM, at, branded, plain};
    use super::*;

    impl Page for Sessions {
        fn sample() -> Vec<(&'static str, Self)> {
            let card = |agent: &str, address: &str, age: i64, form: Option<&str>| SessionCard {
                agent: agent.to_owned(),
                address: address.to_owned(),
                since: at(-age),
                seen: at(-age / 7),
                until: at(43_200 - age),
                form: form.map(str::to_owned),
            };
            let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
            let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 \
                         (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1";
            let here = || card(firefox, "192.0.2.7", 600, None);
            let page = |chrome, cards, others: Option<&str>, ended| Self {
                chrome,
                base: "/account/dir_1".to_owned(),
                cards,
                others: others.map(str::to_owned),
                ended,
            };
            let three = vec![
                here(),
                card(phone, "2001:db8:85a3:8d3:1319:8a2e:370:7348", 40_000, Some(FORM)),
                card("", "198.51.100.4", 30_000, Some(FORM)),
            ];
            vec![
                ("account-sessions", page(plain(), three, Some(FORM), None)),
                ("account-sessions-one", page(branded(), vec![here()], None, Some(Ended::Others))),
            ]
        }
    }
}
