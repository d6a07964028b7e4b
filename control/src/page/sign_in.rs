//! The sign-in page.

use askama::Template;

use super::text::fill;
use super::{Chrome, Page, Problem, problem};

/// Address and password; the answer to a failed attempt is the same page with a problem.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignIn {
    pub(crate) chrome: Chrome,
    /// What is signed in to; `None`: the installation itself.
    pub(crate) app: Option<LeadsTo>,
    /// As typed before, to be corrected.
    pub(crate) email: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

/// The application somebody signs in to.
pub(crate) struct LeadsTo {
    /// The project's name for people.
    pub(crate) name: String,
    /// Where it is: a name can be anything, the host is what the browser will show.
    pub(crate) host: String,
}

impl SignIn {
    fn heading(&self) -> String {
        let t = self.chrome.t;
        self.app
            .as_ref()
            .map_or_else(|| t.sign_in_installation.to_owned(), |app| fill(t.sign_in_to, &app.name))
    }

    fn forgotten(&self) -> String {
        let t = self.chrome.t;
        self.app
            .as_ref()
            .map_or_else(|| t.forgotten_installation.to_owned(), |app| fill(t.forgotten, &app.name))
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, &self.heading(), self.problem.as_ref())
    }

    fn marks_fields(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.in_fields)
    }
}

impl Page for SignIn {
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)> {
        let page = |name: Option<&str>, email: &str, problem| Self {
            chrome: Chrome::english(),
            app: name.map(|name| {
                let label = if name.len() > 20 {
                    "a-project-whose-slug-has-forty-characters--staging"
                } else {
                    "shop"
                };
                LeadsTo { name: name.to_owned(), host: format!("{label}.localhost") }
            }),
            email: email.to_owned(),
            form: "eyJmbG93IjoiZmx3XzAxIn0.c2lnbmF0dXJl".to_owned(),
            problem,
        };
        let t = Chrome::english().t;
        let ada = "ada@shop.example";
        vec![
            ("sign-in", page(Some("Shop"), "", None)),
            ("sign-in-installation", page(None, "", None)),
            (
                "sign-in-long-name",
                page(Some("Kreisverwaltung Mecklenburgische Seenplatte, Fachdienst 14"), "", None),
            ),
            ("sign-in-wrong", page(Some("Shop"), ada, Some(Problem::typed(t.wrong, t.wrong_next)))),
            (
                "sign-in-throttled",
                page(Some("Shop"), ada, Some(Problem::throttled(t, std::time::Duration::from_secs(30)))),
            ),
            ("sign-in-stale", page(Some("Shop"), ada, Some(Problem::other(t.stale, t.stale_next)))),
        ]
    }
}
