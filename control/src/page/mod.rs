//! The hosted pages: one typed struct per template, each with `sample()`, so that a test can render them all.
//!
//! Server-rendered, no script, no inline style, everything escaped by askama. Words are in [`text`], looks in
//! `look/` (shared with the edge's pages, which a visitor meets one click away) and `templates/style.css`, a
//! directory's own looks in [`brand`]. Which page is shown when, and with which status, is `login`'s.

mod account;
mod account_change;
mod agent;
pub(crate) mod asset;
pub(crate) mod brand;
mod by_mail;
mod choose;
mod colour;
mod field;
mod history;
pub(crate) mod mail;
mod moment;
mod notice;
mod problem;
#[cfg(test)]
mod samples;
mod sessions;
mod sign_in;
mod sign_out;
pub(crate) mod text;

pub(crate) use account::{Account, Accounts, App, Card, Saved};
pub(crate) use account_change::{ChangeEmail, ChangeName, ChangePassword, VerifyEmail};
pub(crate) use agent::in_words as agent_in_words;
pub(crate) use brand::Brand;
pub(crate) use by_mail::{
    AskMail, AskMailKind, ConfirmAddress, Confirms, Done, DoneKind, MailSent, MailSentKind,
};
pub(crate) use choose::{Choose, ChooseKind};
pub(crate) use history::{Event, History};
pub(crate) use moment::Moment;
pub(crate) use notice::{Notice, NoticeKind, Way};
pub(crate) use problem::Problem;
pub(crate) use sessions::{Ended, SessionCard, Sessions};
pub(crate) use sign_in::{ChooseAccount, Confirm, LeadsTo, SignIn, TooWeak};
pub(crate) use sign_out::{SignOut, SignedOut};
use text::Texts;

/// The mark at the top of every page without a logo.
const MARK: &str = include_str!("../../../look/mark.html");

/// What every page carries: its language and its looks.
#[derive(Clone)]
pub(crate) struct Chrome {
    pub(crate) t: &'static Texts,
    pub(crate) stylesheet: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) brand: Brand,
}

impl Chrome {
    /// The chrome of pages in English, in the installation's own looks.
    pub(crate) fn english() -> Self {
        Self::branded(Brand::default())
    }

    /// The same in a directory's looks.
    pub(crate) fn branded(brand: Brand) -> Self {
        Self { t: &text::ENGLISH, stylesheet: asset::stylesheet_path(), icon: asset::icon_path(), brand }
    }

    /// Whose page it is, for the title and the last line.
    fn whose(&self) -> &str {
        self.brand.name.as_deref().unwrap_or(self.t.product)
    }
}

/// A page as a person might meet it, in each of its states: for the test that renders them all, and for looking at.
#[cfg(test)]
trait Page: askama::Template {
    fn sample() -> Vec<(&'static str, Self)>
    where
        Self: Sized;
}
