//! The pages an edge answers with itself: errors, and signing out.
//!
//! Plain HTML with one inline style sheet, no script, nothing fetched; the same look as the hosted pages, because a
//! visitor meets both within one click (`look/`). What a page may say is decided by
//! [`crate::request`]; here is only how it looks, and the policy header that lets the one style sheet in.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::OnceLock;

use ::http::HeaderName;
use askama::Template;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The one style sheet of every page: what all pages of the installation share, and the edge's own.
pub(crate) const STYLE: &str =
    concat!(include_str!("../../../look/style.css"), include_str!("../../templates/style.css"));

/// The mark at the top of every page.
pub(crate) const MARK: &str = include_str!("../../../look/mark.html");

/// Says that an answer is a refusal of the edge's own, why, and whose part it is: `<code>; hop=<hop>; id=<request>`, without
/// an id where the request has none yet. Reserved, so no upstream can send it.
pub(crate) const ERROR_FIELD: HeaderName = HeaderName::from_static("mezu-error");

/// A place on a request's way that a person may have to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hop {
    /// The browser or program that asked.
    Client,
    /// This node.
    Edge,
    /// The connection between the edge and the agent beside the application.
    Tunnel,
    /// The agent beside the application.
    Warpgate,
    /// The application.
    Upstream,
}

impl Hop {
    /// All of them, in a request's order.
    pub(crate) const WAY: [Self; 5] =
        [Self::Client, Self::Edge, Self::Tunnel, Self::Warpgate, Self::Upstream];

    /// Its name in problem documents, header fields, metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Edge => "edge",
            Self::Tunnel => "tunnel",
            Self::Warpgate => "warpgate",
            Self::Upstream => "upstream",
        }
    }

    /// Its name for people.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Client => "You",
            Self::Edge => "Edge",
            Self::Tunnel => "Tunnel",
            Self::Warpgate => "Warpgate",
            Self::Upstream => "App",
        }
    }

    /// Which part is at fault, and who can put it right; nothing where it is the request itself, because the page says
    /// what is wrong with that.
    pub(crate) const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Client => None,
            Self::Edge => Some(
                "The fault is at this edge, not with you or the application. Whoever runs this installation can put it right.",
            ),
            Self::Tunnel => Some(
                "The fault is on the way between this edge and the application’s warpgate, not with you. Whoever runs the application can put it right.",
            ),
            Self::Warpgate => Some(
                "The fault is at the warpgate beside the application, not with you. Whoever runs the application can put it right.",
            ),
            Self::Upstream => Some(
                "The fault is at the application itself, not with you or the way to it. Whoever runs the application can put it right.",
            ),
        }
    }
}

/// A link on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where it leads.
    pub(crate) href: String,
    /// What it says.
    pub(crate) label: Cow<'static, str>,
}

/// Something went wrong, where, and what to do next.
#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage<'a> {
    /// What happened, in a few words.
    pub(crate) title: &'a str,
    /// Where the client meant to go, if it said so.
    pub(crate) host: Option<&'a str>,
    /// What happened, in a sentence.
    pub(crate) detail: &'a str,
    /// What to do.
    pub(crate) next: &'a str,
    /// Which account asked, if the page is for somebody who is signed in.
    pub(crate) account: Option<&'a str>,
    /// Where it stopped, if that helps whoever reads it.
    pub(crate) hop: Option<Hop>,
    /// Which part is at fault and who can put it right, if that is not plain.
    pub(crate) fault: Option<&'a str>,
    /// Ways on; the first one is the main one.
    pub(crate) links: &'a [Link],
    /// The stable code.
    pub(crate) code: &'a str,
    /// The request's id.
    pub(crate) request: &'a str,
}

impl ErrorPage<'_> {
    /// The places on the way, each with how far the request came: `passed`, `broken`, or nothing.
    fn way(&self) -> [(&'static str, &'static str); 5] {
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
    /// Where the form goes.
    pub(crate) action: &'a str,
    /// Whether it is to sign in with another account at once.
    pub(crate) switching: bool,
}

impl SignOutPage<'_> {
    fn title(&self) -> &'static str {
        if self.switching { "Use another account?" } else { "Sign out?" }
    }

    fn button(&self) -> &'static str {
        if self.switching { "Sign out and go on" } else { "Sign out" }
    }
}

/// Says that nobody is signed in any more, or that nobody was.
#[derive(Template)]
#[template(path = "signed_out.html")]
pub(crate) struct SignedOutPage<'a> {
    /// Where.
    pub(crate) host: &'a str,
    /// Whether a sign-in has ended just now.
    pub(crate) out: SignedOut,
}

/// How it comes that nobody is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignedOut {
    /// The sign-in was ended, with every session of it.
    Now,
    /// There was no session to end. The browser may have others, on other hosts.
    Before,
}

impl SignedOutPage<'_> {
    fn title(&self) -> &'static str {
        match self.out {
            SignedOut::Now => "You are signed out",
            SignedOut::Before => "You are not signed in",
        }
    }

    fn text(&self) -> &'static str {
        match self.out {
            SignedOut::Now => {
                "Here and in every application you had opened. On a shared computer, close the browser as well."
            }
            SignedOut::Before => "There is no session here to sign out of.",
        }
    }
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

    const ACCOUNT: &str = "Zoë <zoe@example>";

    fn link(label: &'static str) -> Link {
        Link { href: "https://login.example/a?b=1&c=2".to_owned(), label: label.into() }
    }

    fn error<'a>(title: &'a str, hop: Option<Hop>, links: &'a [Link]) -> ErrorPage<'a> {
        ErrorPage {
            title,
            host: Some("shop.localhost"),
            detail: "It did not & could not.",
            next: "If it stays so, tell whoever runs this application, with this code and request.",
            account: None,
            hop,
            fault: hop.and_then(Hop::fault),
            links,
            code: "warpgate.upstream_refused",
            request: "req_01jd8x0m4vf1n8q3t5w7y9a2c4",
        }
    }

    /// Every page as people meet it, by name.
    fn every_page() -> Vec<(&'static str, String)> {
        let one = [link("Go to the front page of shop.localhost")];
        let two = [link("Use another account"), link("Go to the front page of shop.localhost")];
        let long = "a-project-whose-slug-has-forty-characters--staging.applications.example.org";
        let denied = ErrorPage {
            account: Some(ACCOUNT),
            detail: "Your account may not use this page.",
            next: "Ask whoever runs this application for access, or use another account.",
            code: "edge.denied",
            ..error("No access", None, &two)
        };
        let again = [link("Sign in again"), link("Use another account")];
        let not_enough = ErrorPage {
            account: Some(ACCOUNT),
            detail: "You have signed in again, and this page asks for a sign-in within the last 15 minutes.",
            next: "Ask whoever runs this application, or use another account.",
            code: "edge.step_up_failed",
            ..error("A newer sign-in is needed", None, &again)
        };
        let maintenance = ErrorPage {
            detail: "We are moving to a bigger house.\n\nOrders are open again on Monday at noon.",
            next: "Come back later.",
            fault: None,
            code: "edge.maintenance",
            ..error("Closed for maintenance", None, &[])
        };
        let out = |out| SignedOutPage { host: "shop.localhost", out }.render().unwrap();
        let sign_out = |action, switching| SignOutPage {
            account: ACCOUNT,
            host: "shop.localhost",
            token: "t",
            action,
            switching,
        };
        vec![
            ("error-at-a-hop", error("<title>", Some(Hop::Upstream), &[]).render().unwrap()),
            ("error-without-a-hop", error("Not found", None, &one).render().unwrap()),
            (
                "error-in-the-tunnel",
                error("Application not connected", Some(Hop::Tunnel), &[]).render().unwrap(),
            ),
            ("maintenance", maintenance.render().unwrap()),
            (
                "error-long",
                ErrorPage { host: Some(long), ..error("Not found", None, &one) }.render().unwrap(),
            ),
            (
                "error-without-a-host",
                ErrorPage { host: None, ..error("Bad request", None, &[]) }.render().unwrap(),
            ),
            ("denied", denied.render().unwrap()),
            ("not-enough", not_enough.render().unwrap()),
            ("sign-out", sign_out("/.mezu/sign-out", false).render().unwrap()),
            ("switch-account", sign_out("/.mezu/sign-out?then=sign-in", true).render().unwrap()),
            ("signed-out", out(SignedOut::Now)),
            ("not-signed-in", out(SignedOut::Before)),
        ]
    }

    #[test]
    fn every_page_renders_whole_with_a_title_a_heading_and_the_mark() {
        for (name, html) in every_page() {
            for part in
                ["<!doctype html>", "<html lang=\"en\">", "<h1>", "class=\"mark\"", "<footer>", "</html>"]
            {
                assert_eq!(html.matches(part).count(), 1, "{name}: {part}");
            }
            let title = html.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(title.ends_with(" · Mezusphere") && title.len() > 20, "{name}: {title}");
        }
    }

    #[test]
    fn a_page_is_small() {
        for (name, html) in every_page() {
            assert!(html.len() < 8 * 1024, "{name}: {} octets", html.len());
        }
    }

    /// Writes all pages to the directory in `MEZU_PAGES`, to be looked at.
    #[test]
    fn pages_can_be_written_out_to_be_looked_at() {
        let Some(dir) = std::env::var_os("MEZU_PAGES").map(std::path::PathBuf::from) else { return };
        for (name, html) in every_page() {
            std::fs::write(dir.join(format!("edge-{name}.html")), html).unwrap();
        }
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
            assert!(!html.contains("<h1><title>") && !html.contains("<zoe@"), "{name}");
        }
    }

    #[test]
    fn the_way_marks_the_hop_that_failed_and_those_before_it() {
        let (_, html) = &every_page()[0];
        assert_eq!(html.matches("class=\"passed\"").count(), 4);
        assert_eq!(html.matches("class=\"broken\"").count(), 1);
        assert!(html.contains("<li class=\"broken\"><span>App</span>"));
    }

    #[test]
    fn the_policy_lets_in_the_one_style_sheet_and_nothing_else() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"));
    }
}
