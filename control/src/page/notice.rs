//! Pages that say why nothing else can be shown, and what to do next.

use askama::Template;

use super::{Chrome, text};

/// A notice with its stable code.
#[derive(Template)]
#[template(path = "notice.html")]
pub(crate) struct Notice {
    pub(crate) chrome: Chrome,
    words: &'static text::Notice,
    code: &'static str,
    link: Option<Way>,
    /// The request's id, as the access log has it.
    request: Option<String>,
}

/// Where to go from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To sign in: there.
    SignIn(String),
    /// To the account: right for everybody, because who is not signed in is sent on to sign in.
    Account,
}

impl Way {
    fn href(&self) -> &str {
        match self {
            Self::SignIn(path) => path,
            Self::Account => "/account",
        }
    }

    fn label(&self, chrome: &Chrome) -> &'static str {
        match self {
            Self::SignIn(_) => chrome.t.sign_in.submit,
            Self::Account => chrome.t.by_mail.to_account,
        }
    }
}

/// Which notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    LinkDead,
    LinkTaken,
    SignUpClosed,
    InvitationOnly,
    SessionOver,
    OtherAccount,
    MailOff,
    Inactive,
    Throttled,
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
    const ALL: [Self; 20] = [
        Self::LinkDead,
        Self::LinkTaken,
        Self::SignUpClosed,
        Self::InvitationOnly,
        Self::SessionOver,
        Self::OtherAccount,
        Self::MailOff,
        Self::Inactive,
        Self::Throttled,
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
            Self::LinkTaken => "login.link_taken",
            Self::SignUpClosed => "login.sign_up_closed",
            Self::InvitationOnly => "login.invitation_only",
            Self::SessionOver => "login.session_over",
            Self::OtherAccount => "login.other_account",
            Self::MailOff => "login.mail_off",
            Self::Inactive => "login.inactive",
            Self::Throttled => "login.throttled",
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
            Self::LinkTaken => &all.link_taken,
            Self::SignUpClosed => &all.sign_up_closed,
            Self::InvitationOnly => &all.invitation_only,
            Self::SessionOver => &all.session_over,
            Self::OtherAccount => &all.other_account,
            Self::MailOff => &all.mail_off,
            Self::Inactive => &all.inactive,
            Self::Throttled => &all.throttled,
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
    /// The notice of this kind, with the way on.
    pub(crate) fn new(chrome: Chrome, kind: NoticeKind, way: Option<Way>, request: Option<String>) -> Self {
        Self { words: kind.text(&chrome), code: kind.code(), link: way, request, chrome }
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{branded, plain};
    use super::*;

    impl Page for Notice {
        fn sample() -> Vec<(&'static str, Self)> {
            let request = || Some("req_01jd8x0m4vf1n8q3t5w7y9a2c4".to_owned());
            let page = |kind: NoticeKind| {
                let way = match kind {
                    NoticeKind::SessionOver | NoticeKind::LinkTaken => {
                        Some(Way::SignIn("/sign-in".to_owned()))
                    }
                    NoticeKind::NotFound | NoticeKind::OtherAccount => Some(Way::Account),
                    _ => None,
                };
                (kind.code().trim_start_matches("login."), Self::new(plain(), kind, way, request()))
            };
            let dead = Self::new(branded(), NoticeKind::LinkDead, Some(Way::Account), request());
            NoticeKind::ALL.into_iter().map(page).chain([("link_dead-branded", dead)]).collect()
        }
    }
}
