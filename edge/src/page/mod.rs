//! The pages an edge answers with itself: errors, and signing out.
//!
//! Plain HTML with one inline style sheet, no script, nothing fetched. What a page may say is decided by
//! [`crate::request`]; here is only how it looks, and the policy header that lets the one style sheet in.

use std::cmp::Ordering;
use std::sync::OnceLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The one style sheet of every page.
pub(crate) const STYLE: &str = include_str!("../../templates/style.css");

/// A place on a request's way that a person may have to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hop {
    /// The browser or program that asked.
    Client,
    /// This node.
    Edge,
    /// The agent beside the application.
    Warpgate,
    /// The application.
    Upstream,
}

impl Hop {
    /// All of them, in a request's order.
    pub(crate) const WAY: [Self; 4] = [Self::Client, Self::Edge, Self::Warpgate, Self::Upstream];

    /// Its name in problem documents and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Edge => "edge",
            Self::Warpgate => "warpgate",
            Self::Upstream => "upstream",
        }
    }

    /// Its name for people.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Client => "You",
            Self::Edge => "Edge",
            Self::Warpgate => "Warpgate",
            Self::Upstream => "Application",
        }
    }
}

/// A link on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where it leads.
    pub(crate) href: String,
    /// What it says.
    pub(crate) label: &'static str,
}

/// Something went wrong, where, and what to do next.
#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened, in a few words.
    pub(crate) title: &'a str,
    /// What happened, in a sentence.
    pub(crate) detail: &'a str,
    /// What to do.
    pub(crate) next: &'a str,
    /// Which account asked, if the page is for somebody who is signed in.
    pub(crate) account: Option<&'a str>,
    /// Where it stopped, if that helps whoever reads it.
    pub(crate) hop: Option<Hop>,
    /// Ways on; the first one is the main one.
    pub(crate) links: &'a [Link],
    /// The stable code.
    pub(crate) code: &'a str,
    /// The request's id.
    pub(crate) request: &'a str,
}

impl ErrorPage<'_> {
    /// The places on the way, each with how far the request came: `passed`, `broken`, or nothing.
    fn way(&self) -> [(&'static str, &'static str); 4] {
        Hop::WAY.map(|place| {
            let mark = match self.hop.map(|hop| place.cmp(&hop)) {
                Some(Ordering::Less) => "passed",
                Some(Ordering::Equal) => "broken",
                Some(Ordering::Greater) | None => "",
            };
            (place.label(), mark)
        })
    }
}

/// Asks whether to sign out, so that a GET changes nothing.
#[derive(Template)]
#[template(path = "sign_out.html")]
pub(crate) struct SignOutPage<'a> {
    /// Who would be signed out.
    pub(crate) account: &'a str,
    /// Where.
    pub(crate) host: &'a str,
    /// Proves that the form came from this page (R16).
    pub(crate) token: &'a str,
}

/// Says that signing out is done.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub(crate) struct SignedOutPage<'a> {
    /// Where.
    pub(crate) host: &'a str,
}

/// The `content-security-policy` of every page: the one style sheet, forms to this host, and nothing else.
pub(crate) fn content_security_policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()).as_ref());
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_page() -> Vec<(&'static str, String)> {
        let links = [Link { href: "https://login.example/a?b=1&c=2".to_owned(), label: "Sign in" }];
        let error = |hop, account| {
            ErrorPage {
                status: 502,
                title: "<title>",
                detail: "It did not & could not.",
                next: "Try again.",
                account,
                hop,
                links: &links,
                code: "warpgate.upstream_refused",
                request: "req_0",
            }
            .render()
            .unwrap()
        };
        vec![
            ("error at a hop", error(Some(Hop::Upstream), None)),
            ("error without a hop", error(None, Some("Zoë <zoe@example>"))),
            ("sign out", SignOutPage { account: "zoe", host: "shop.example", token: "t" }.render().unwrap()),
            ("signed out", SignedOutPage { host: "shop.example" }.render().unwrap()),
        ]
    }

    #[test]
    fn r18_a_page_needs_nothing_its_policy_forbids() {
        for (name, html) in every_page() {
            assert!(
                html.contains(&format!("<style>{STYLE}</style>")),
                "{name}: the style is not what was hashed"
            );
            for forbidden in ["<script", "style=\"", "<img", "<link", "javascript:", " on"] {
                let outside = html.replace(STYLE, "");
                let found = outside.match_indices(forbidden).any(|(at, _)| {
                    forbidden != " on" || outside.get(at..at + 9).is_some_and(|text| text.contains("=\""))
                });
                assert!(!found, "{name}: {forbidden}");
            }
        }
    }

    #[test]
    fn what_a_page_shows_is_escaped() {
        for (name, html) in every_page() {
            assert!(!html.contains("<title> ·") && !html.contains("<zoe@"), "{name}");
        }
    }

    #[test]
    fn the_way_marks_the_hop_that_failed_and_those_before_it() {
        let (_, html) = &every_page()[0];
        assert_eq!(html.matches("class=\"passed\"").count(), 3);
        assert_eq!(html.matches("class=\"broken\"").count(), 1);
        assert!(html.contains("<li class=\"broken\"><span>Application</span>"));
    }

    #[test]
    fn the_policy_lets_in_the_one_style_sheet_and_nothing_else() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"));
    }
}
