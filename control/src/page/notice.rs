//! Pages that say why nothing else can be shown, and what to do next.

use askama::Template;

use super::{Chrome, Page, text};

/// A notice with its stable code.
#[derive(Template)]
#[template(path = "notice.html")]
pub(crate) struct Notice {
    pub(crate) chrome: Chrome,
    words: &'static text::Notice,
    code: &'static str,
    link: Option<Link>,
    /// The request's id, as the access log has it.
    request: Option<String>,
}

/// Where to go from here.
#[derive(Clone)]
struct Link {
    href: &'static str,
    label: &'static str,
}

/// Which notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    LinkDead,
    UnknownHost,
    BadReturn,
    FormStale,
    CrossSite,
    NoCookies,
    BadRequest,
    TooLarge,
    NotFound,
    WrongMethod,
    Busy,
    Fault,
}

impl NoticeKind {
    #[cfg(test)]
    const ALL: [Self; 12] = [
        Self::LinkDead,
        Self::UnknownHost,
        Self::BadReturn,
        Self::FormStale,
        Self::CrossSite,
        Self::NoCookies,
        Self::BadRequest,
        Self::TooLarge,
        Self::NotFound,
        Self::WrongMethod,
        Self::Busy,
        Self::Fault,
    ];

    /// Its stable code.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::LinkDead => "login.link_dead",
            Self::UnknownHost => "login.unknown_host",
            Self::BadReturn => "login.bad_return",
            Self::FormStale => "login.form_stale",
            Self::CrossSite => "login.cross_site",
            Self::NoCookies => "login.no_cookies",
            Self::BadRequest => "login.bad_request",
            Self::TooLarge => "login.too_large",
            Self::NotFound => "login.not_found",
            Self::WrongMethod => "login.wrong_method",
            Self::Busy => "login.busy",
            Self::Fault => "login.fault",
        }
    }

    fn text(self, chrome: &Chrome) -> &'static text::Notice {
        let all = &chrome.t.notice;
        match self {
            Self::LinkDead => &all.link_dead,
            Self::UnknownHost => &all.unknown_host,
            Self::BadReturn => &all.bad_return,
            Self::FormStale => &all.form_stale,
            Self::CrossSite => &all.cross_site,
            Self::NoCookies => &all.no_cookies,
            Self::BadRequest => &all.bad_request,
            Self::TooLarge => &all.too_large,
            Self::NotFound => &all.not_found,
            Self::WrongMethod => &all.wrong_method,
            Self::Busy => &all.busy,
            Self::Fault => &all.fault,
        }
    }
}

impl Notice {
    /// The notice of this kind.
    pub(crate) fn new(chrome: Chrome, kind: NoticeKind, request: Option<String>) -> Self {
        let link = match kind {
            // Only where signing in at the installation itself is a way on.
            NoticeKind::LinkDead => Some(Link { href: "/sign-in", label: chrome.t.sign_in }),
            // Right for everybody: who is not signed in is sent on to sign in.
            NoticeKind::NotFound => Some(Link { href: "/account", label: chrome.t.go_to_account }),
            _ => None,
        };
        Self { chrome, words: kind.text(&chrome), code: kind.code(), link, request }
    }
}

impl Page for Notice {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        NoticeKind::ALL
            .into_iter()
            .map(|kind| {
                let request = Some("req_01jd8x0m4vf1n8q3t5w7y9a2c4".to_owned());
                (kind.code().trim_start_matches("login."), Self::new(Chrome::english(), kind, request))
            })
            .collect()
    }
}
