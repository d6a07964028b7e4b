//! The pages on which somebody chooses a password by a link: the first one, signing up, an invitation, recovery.

use askama::Template;

use super::field::Field;
use super::text::fill;
use super::{Chrome, Problem, problem};

/// A new password, twice; a name where there is none yet.
#[derive(Template)]
#[template(path = "choose.html")]
pub(crate) struct Choose {
    pub(crate) chrome: Chrome,
    pub(crate) kind: ChooseKind,
    /// Whose password it is.
    pub(crate) email: String,
    /// The name as typed or known; used where one is asked for.
    pub(crate) name: String,
    /// The link's own path.
    pub(crate) action: String,
    /// The form token.
    pub(crate) form: String,
    pub(crate) problem: Option<Problem>,
}

/// What it is chosen for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChooseKind {
    First,
    SignUp,
    Invitation { by: String, project: String },
    Recover,
}

impl Choose {
    fn heading(&self) -> String {
        let t = &self.chrome.t.by_mail;
        match &self.kind {
            ChooseKind::First | ChooseKind::Recover => t.choose_title.to_owned(),
            ChooseKind::SignUp => t.choose_sign_up_title.to_owned(),
            ChooseKind::Invitation { project, .. } => fill(t.choose_invitation_title, project),
        }
    }

    fn text(&self) -> String {
        let t = &self.chrome.t.by_mail;
        let text = match &self.kind {
            ChooseKind::First => t.choose_first,
            ChooseKind::Recover => t.choose_recover,
            ChooseKind::SignUp => t.choose_sign_up,
            ChooseKind::Invitation { .. } => t.choose_invitation,
        };
        let text = fill(text, &self.email);
        match &self.kind {
            ChooseKind::Invitation { by, .. } if !by.is_empty() => {
                format!("{} {text}", fill(t.choose_invitation_by, by))
            }
            _ => text,
        }
    }

    const fn submit(&self) -> &'static str {
        let t = &self.chrome.t.by_mail;
        match &self.kind {
            ChooseKind::First => t.choose_first_submit,
            ChooseKind::Recover => t.choose_recover_submit,
            ChooseKind::SignUp => t.choose_sign_up_submit,
            ChooseKind::Invitation { .. } => t.choose_invitation_submit,
        }
    }

    fn title(&self) -> String {
        problem::title(self.chrome.t, &self.heading(), self.problem.as_ref())
    }

    const fn asks_name(&self) -> bool {
        matches!(self.kind, ChooseKind::SignUp | ChooseKind::Invitation { .. })
    }

    /// The cursor goes to the field the problem lies in, or else to the first that is empty.
    fn starts_with_name(&self) -> bool {
        let problem = self.problem.as_ref().and_then(Problem::first_field);
        self.asks_name() && problem.map_or(self.name.is_empty(), |field| field == "name")
    }

    fn name_field(&self) -> Field<'_> {
        Field::name(self.chrome.t, &self.name).with(self.problem.as_ref()).focus(self.starts_with_name())
    }

    fn password_field(&self) -> Field<'_> {
        let focus = !self.starts_with_name();
        Field::new_password(self.chrome.t).with(self.problem.as_ref()).focus(focus)
    }

    fn repeat_field(&self) -> Field<'_> {
        Field::repeat(self.chrome.t).with(self.problem.as_ref())
    }
}

#[cfg(test)]
mod sample {
    use super::super::Page;
    use super::super::samples::{ADA, FORM, LONG, branded, plain};
    use super::*;

    impl Page for Choose {
        fn sample() -> Vec<(&'static str, Self)> {
            let page = |chrome, kind, name: &str, problem| Self {
                chrome,
                kind,
                email: ADA.to_owned(),
                name: name.to_owned(),
                action: "/first-sign-in/dGhpcyBpcyBvbmx5IGEgc2FtcGxlIG9mIGEgbGluayB0b2tlbg".to_owned(),
                form: FORM.to_owned(),
                problem,
            };
            let t = plain().t;
            let common = Problem::typed(&t.problem.common, &["password", "repeat"]);
            let name = Problem::typed(&t.problem.name, &["name"]);
            let invited = |by: &str, project: &str| ChooseKind::Invitation {
                by: by.to_owned(),
                project: project.to_owned(),
            };
            vec![
                ("first-sign-in", page(plain(), ChooseKind::First, "", None)),
                ("first-sign-in-common", page(plain(), ChooseKind::First, "", Some(common.clone()))),
                ("sign-up-link", page(plain(), ChooseKind::SignUp, "", None)),
                ("sign-up-link-name", page(plain(), ChooseKind::SignUp, "", Some(name))),
                ("sign-up-link-common", page(branded(), ChooseKind::SignUp, LONG, Some(common))),
                ("invitation", page(plain(), invited("Grace Hopper", "Shop"), "Ada", None)),
                ("invitation-long", page(branded(), invited(LONG, LONG), LONG, None)),
                ("recover-link", page(plain(), ChooseKind::Recover, "", None)),
            ]
        }
    }
}
