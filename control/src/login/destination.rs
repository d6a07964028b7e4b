//! Where somebody goes after signing in, read from the query of the sign-in page and from nothing else (R17).
//!
//! `host` must be a host some environment is registered for; `return_to` a path on it. What a browser could
//! read as another site is refused, not repaired. All destinations are `https`.
//! What the query asks for beyond that is [`super::wish`]'s.

use mezusphere_identity::flow::Onward;
use mezusphere_identity::sign_in::Destination;
use mezusphere_model::Host;
use mezusphere_model::id::DirectoryId;
use mezusphere_model::path::URI_LEN_MAX;
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, host, project};
use serde::{Deserialize, Serialize};

use super::wish::Wish;

/// Characters of a SHA-256 in base64url.
const STATE_LEN: usize = 43;

/// What the query asks for, if it is well-formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asked {
    /// Nothing: the installation's own account page, for operators.
    Home,
    /// The account page of somebody of this directory.
    Directory(DirectoryId),
    /// An application.
    App(AppAddress),
}

/// An address on an app host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppAddress {
    /// The host; whether anything is published there is for [`AppAddress::resolve`].
    pub(super) host: Host,
    /// Path and query there.
    pub(super) return_to: String,
    /// SHA-256 of the state cookie's secret, base64url.
    pub(super) state: String,
}

/// Why a query does not say where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadReturn;

/// A destination that exists, and whose accounts may go there.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) destination: Destination,
    /// The project's name for people.
    pub(super) name: String,
    pub(super) directory: DirectoryId,
}

impl Asked {
    /// Reads the query's fields.
    pub(super) fn read(fields: &[(String, String)]) -> Result<Self, BadReturn> {
        let (host, return_to, state) =
            (one(fields, "host")?, one(fields, "return_to")?, one(fields, "state")?);
        let directory = one(fields, "directory")?;
        let (host, return_to, state) = match (host, return_to, state, directory) {
            (None, None, None, None) => return Ok(Self::Home),
            (None, None, None, Some(directory)) => {
                return directory.parse().map(Self::Directory).map_err(|_| BadReturn);
            }
            (Some(host), Some(return_to), Some(state), None) => (host, return_to, state),
            _ => return Err(BadReturn),
        };
        let host = Host::parse(host).map_err(|_| BadReturn)?;
        if !is_path_here(return_to) || !is_state(state) {
            return Err(BadReturn);
        }
        Ok(Self::App(AppAddress { host, return_to: return_to.to_owned(), state: state.to_owned() }))
    }

    /// A page of this host, asked with the same query.
    pub(super) fn path(&self, page: &str) -> String {
        match self {
            Self::Home => page.to_owned(),
            Self::Directory(directory) => format!("{page}?directory={directory}"),
            Self::App(AppAddress { host, return_to, state }) => {
                let start = format!("{page}?");
                let len = start.len();
                let mut query = form_urlencoded::Serializer::for_suffix(start, len);
                query.append_pair("host", host.as_str());
                query.append_pair("return_to", return_to).append_pair("state", state).finish()
            }
        }
    }

    /// The sign-in page with the same query and a wish.
    pub(super) fn sign_in(&self, wish: Wish) -> String {
        let mut path = self.path("/sign-in");
        for (name, value) in wish.fields() {
            path.extend([if path.contains('?') { "&" } else { "?" }, name, "=", &value]);
        }
        path
    }

    /// Where somebody wants to go, as a link keeps it.
    pub(super) fn onward(&self) -> Option<Onward> {
        match self {
            Self::Home | Self::Directory(_) => None,
            Self::App(AppAddress { host, return_to, .. }) => {
                Some(Onward { host: host.clone(), return_to: return_to.clone() })
            }
        }
    }
}

/// Where a link leads on, if people of `directory` may still go there.
pub(super) async fn onward(
    tx: &mut ReadTx,
    onward: Option<&Onward>,
    directory: DirectoryId,
) -> Result<Option<Further>, StoreError> {
    let Some(Onward { host, return_to }) = onward else { return Ok(None) };
    let Some(row) = host::find(tx, host).await? else { return Ok(None) };
    let project = project::get(tx, row.project).await?.filter(|project| project.directory == directory);
    let further = |name| Further { host: host.clone(), return_to: return_to.clone(), name };
    Ok(project.filter(|_| is_path_here(return_to)).map(|project| further(project.name)))
}

/// An application's page that exists, for people who may go there.
#[derive(Clone, Debug)]
pub(super) struct Further {
    pub(super) host: Host,
    pub(super) return_to: String,
    /// The project's name for people.
    pub(super) name: String,
}

impl AppAddress {
    /// What is published on the host; `None`: nothing.
    pub(super) async fn resolve(&self, tx: &mut ReadTx) -> Result<Option<Resolved>, StoreError> {
        let Some(row) = host::find(tx, &self.host).await? else { return Ok(None) };
        let Some(project) = project::get(tx, row.project).await? else { return Ok(None) };
        let destination = Destination {
            project: row.project,
            environment: row.environment,
            host: self.host.clone(),
            state_hash: self.state.clone(),
            return_to: self.return_to.clone(),
        };
        Ok(Some(Resolved { destination, name: project.name, directory: project.directory }))
    }
}

/// The field's one value; twice is an error, because two readers could choose differently.
pub(super) fn one<'a>(fields: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, BadReturn> {
    let mut values = fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let first = values.next();
    if values.next().is_some() { Err(BadReturn) } else { Ok(first) }
}

/// Whether a browser that resolves `text` against an origin stays on that origin, whatever its quirks: it
/// reads `\` as `/`, drops tabs and line breaks, and trims controls and spaces (WHATWG URL §4.4).
fn is_path_here(text: &str) -> bool {
    let mut octets = text.bytes();
    octets.next() == Some(b'/')
        && octets.next() != Some(b'/')
        && text.len() <= URI_LEN_MAX
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'\\' | b'#'))
}

fn is_state(text: &str) -> bool {
    text.len() == STATE_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(host: &str, return_to: &str, state: &str) -> Result<Asked, BadReturn> {
        Asked::read(&fields(&[("host", host), ("return_to", return_to), ("state", state)]))
    }

    #[test]
    fn r17_a_path_on_the_host_is_taken_as_it_is() {
        for path in [
            "/",
            "/orders",
            "/orders/7?tab=2&x=%2F",
            "/a//b",
            "/?next=https://evil.example",
            "/%5Cevil",
            "/@evil",
            "/.well-known/x",
            "/:8443/",
            "/%2F%2Fevil.example",
            "/~ada/",
            "/*",
            "/a;b=c",
            "/a|b",
            "/\"",
        ] {
            let Ok(Asked::App(app)) = read("shop.localhost", path, STATE) else { panic!("{path}") };
            assert_eq!(app.return_to, path);
        }
    }

    #[test]
    fn r17_what_could_lead_to_another_site_is_refused() {
        let long = format!("/{}", "a".repeat(URI_LEN_MAX));
        let payloads = [
            "",
            " ",
            "//",
            "//evil.example",
            "///evil.example",
            "////evil.example/",
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "\\evil.example",
            "/\\/evil.example",
            "/\\\\evil.example",
            "/a\\b",
            "/..\\evil.example",
            "https://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https:\\\\evil.example",
            "HTTPS://evil.example",
            "http://evil.example",
            "http:evil.example",
            "ftp://evil.example",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java\tscript:alert(1)",
            "data:text/html,<script>",
            "vbscript:x",
            "mailto:eve@evil.example",
            "evil.example",
            "evil.example/",
            "@evil.example",
            ".evil.example",
            ":443",
            "?next=//evil.example",
            "#",
            "#//evil.example",
            "/#//evil.example",
            "/a#b",
            "\t//evil.example",
            "\t/",
            " /",
            "\n/",
            "\r/",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "/\r\n/evil.example",
            "/\u{0}/evil.example",
            "/ /evil.example",
            "/a b",
            "/a\r\nSet-Cookie: x=y",
            "/\u{7f}",
            "/\u{a0}/evil.example",
            "/\u{2028}",
            "/ö",
            "/\u{ff0f}evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "\u{feff}//evil.example",
            "/\u{200b}/evil.example",
            "//shop.localhost@evil.example",
            "//[::1]/",
            "//127.0.0.1/",
            "/\\\t/evil.example",
            "%2f%2fevil.example",
            "%5cevil.example",
            "..//evil.example",
            "./",
            "../",
            &long,
        ];
        assert!(payloads.len() >= 60, "{}", payloads.len());
        for payload in payloads {
            assert_eq!(read("shop.localhost", payload, STATE), Err(BadReturn), "{payload:?}");
        }
    }

    #[test]
    fn r17_a_host_is_a_bare_name() {
        for host in [
            "",
            "shop.localhost:443",
            "https://shop.localhost",
            "shop.localhost/",
            "shop.localhost@evil.example",
            "evil.example#shop.localhost",
            "127.0.0.1",
            "[::1]",
            "shop localhost",
            "shop.localhost\\.evil.example",
            "*",
            "shop.localhost?",
            "shop.localhost\r\n",
            "ſhop.localhost",
            "shop。localhost",
        ] {
            assert_eq!(read(host, "/", STATE), Err(BadReturn), "{host:?}");
        }
        let Ok(Asked::App(app)) = read("Shop.Localhost.", "/", STATE) else { panic!("one spelling") };
        assert_eq!(app.host.as_str(), "shop.localhost");
    }

    #[test]
    fn a_state_is_a_hash_and_nothing_is_said_twice_or_by_halves() {
        for state in ["", "short", &STATE[1..], &format!("{STATE}A"), &STATE.replace('-', "+")] {
            assert_eq!(read("shop.localhost", "/", state), Err(BadReturn), "{state}");
        }
        assert_eq!(Asked::read(&[]), Ok(Asked::Home));
        let all = [("host", "shop.localhost"), ("return_to", "/"), ("state", STATE)];
        for n in 0..3 {
            let mut twice = all.to_vec();
            twice.push(all[n]);
            assert_eq!(Asked::read(&fields(&twice)), Err(BadReturn));
            let mut missing = all.to_vec();
            missing.remove(n);
            assert_eq!(Asked::read(&fields(&missing)), Err(BadReturn));
        }
        let mut unknown = all.to_vec();
        unknown.push(("utm_source", "mail"));
        assert!(Asked::read(&fields(&unknown)).is_ok(), "fields that are not ours do not matter");
    }

    #[test]
    fn r17_an_accepted_path_stays_on_its_origin_in_a_real_url_parser() {
        use proptest::prelude::*;
        let base = url::Url::parse("https://shop.localhost:8443/.mezu/callback?code=x").unwrap();
        let text = prop::collection::vec(
            prop::sample::select(vec![
                "/",
                "\\",
                "a",
                "evil.example",
                "@",
                ":",
                "?",
                "#",
                "%2f",
                "%5c",
                "..",
                ".",
                "\t",
                "\n",
                " ",
                "https:",
                "ö",
                "\u{0}",
            ]),
            0..8,
        );
        proptest!(|(parts in text)| {
            let text = format!("/{}", parts.concat());
            if is_path_here(&text) {
                let there = base.join(&text).unwrap();
                prop_assert_eq!(there.origin(), base.origin(), "{}", text);
            }
        });
    }
}
