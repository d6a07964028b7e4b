//! The account page: who is signed in, until when, where, and the way out.

use askama::Template;

use super::text::{Texts, fill};
use super::{Chrome, Moment, Page};

/// One card per sign-in of this browser: usually one, more for somebody with accounts in several directories.
#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct Account {
    pub(crate) chrome: Chrome,
    pub(crate) sign_ins: Vec<SignInCard>,
}

/// A sign-in.
pub(crate) struct SignInCard {
    pub(crate) name: String,
    pub(crate) email: String,
    /// Whose account it is: the directory's name.
    pub(crate) directory: String,
    pub(crate) since: Moment,
    pub(crate) until: Moment,
    pub(crate) apps: Vec<App>,
    /// The form token for signing this one out.
    pub(crate) form: String,
}

/// An application somebody is signed in to.
pub(crate) struct App {
    pub(crate) host: String,
    /// Its `https://` origin.
    pub(crate) origin: String,
    pub(crate) until: Moment,
}

impl App {
    fn until_text(&self, t: &Texts) -> String {
        fill(t.account_app_until, &self.until.for_people(t))
    }
}

impl Page for Account {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        let at = |seconds: i64| Moment(mezusphere_model::Timestamp::from_seconds(1_795_294_748 + seconds));
        let app = |host: &str| App {
            host: host.to_owned(),
            origin: format!("https://{host}:8443"),
            until: at(12 * 3600),
        };
        let card = |name: &str, email: &str, directory: &str, apps: Vec<App>| SignInCard {
            name: name.to_owned(),
            email: email.to_owned(),
            directory: directory.to_owned(),
            since: at(0),
            until: at(12 * 3600),
            apps,
            form: "eyJmbG93IjoiZmx3XzAxIn0.c2lnbmF0dXJl".to_owned(),
        };
        let ada = || {
            let apps = vec![app("shop.localhost"), app("shop--staging.localhost")];
            card("Ada Lovelace", "ada@shop.example", "Shop", apps)
        };
        let operator = || card("Operator", "operator@mezu.localhost", "Operators", Vec::new());
        vec![
            ("account", Self { chrome: Chrome::english(), sign_ins: vec![ada()] }),
            ("account-two", Self { chrome: Chrome::english(), sign_ins: vec![operator(), ada()] }),
        ]
    }
}
