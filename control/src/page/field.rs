//! One field of a form: label, hint, input, and how a problem is tied to it.

use askama::Template;

use super::Problem;
use super::text::Texts;

/// Longest password a field takes, in UTF-16 units: 128 code points of any plane, and some to be told of.
const PASSWORD_LEN_MAX: u32 = 512;

/// A field; its name is its id.
#[derive(Template)]
#[template(path = "field.html")]
pub(super) struct Field<'a> {
    id: &'static str,
    label: &'a str,
    kind: &'static str,
    /// What password managers and keyboards know it by (WCAG 1.3.5).
    autocomplete: &'static str,
    len_max: u32,
    value: &'a str,
    hint: Option<&'a str>,
    /// A problem is shown, so the field refers to it.
    described: bool,
    invalid: bool,
    focus: bool,
    need: Need,
    /// For password managers that make one up.
    rules: Option<&'static str>,
}

/// Whether a form is whole without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

impl<'a> Field<'a> {
    const fn new(id: &'static str, label: &'a str, kind: &'static str, autocomplete: &'static str) -> Self {
        Self {
            id,
            label,
            kind,
            autocomplete,
            len_max: PASSWORD_LEN_MAX,
            value: "",
            hint: None,
            described: false,
            invalid: false,
            focus: false,
            need: Need::Required,
            rules: None,
        }
    }

    fn is_required(&self) -> bool {
        self.need == Need::Required
    }

    /// The address somebody signs in with.
    pub(super) const fn email(t: &'a Texts, value: &'a str) -> Self {
        Self { len_max: 254, value, ..Self::new("email", t.field.email, "email", "username") }
    }

    /// Another address than the one somebody signs in with now.
    pub(super) const fn new_email(t: &'a Texts, value: &'a str) -> Self {
        Self { len_max: 254, value, ..Self::new("email", t.field.new_email, "email", "email") }
    }

    /// A name to show.
    pub(super) const fn name(t: &'a Texts, value: &'a str) -> Self {
        let hint = Some(t.field.name_hint);
        Self { len_max: 200, value, hint, ..Self::new("name", t.field.name, "text", "name") }
    }

    /// The name somebody has, to be changed.
    pub(super) const fn own_name(t: &'a Texts, value: &'a str) -> Self {
        Self { hint: None, ..Self::name(t, value) }
    }

    /// The name others see, where it is not to be that.
    pub(super) const fn display_name(t: &'a Texts, value: &'a str) -> Self {
        let hint = Some(t.field.display_name_hint);
        let field = Self::new("display_name", t.field.display_name, "text", "nickname");
        Self { len_max: 200, value, hint, need: Need::Optional, ..field }
    }

    /// The password somebody has; never filled in.
    pub(super) const fn password(t: &'a Texts) -> Self {
        Self::new("password", t.field.password, "password", "current-password")
    }

    /// The password somebody has, where they choose another one.
    pub(super) const fn current_password(t: &'a Texts) -> Self {
        Self::new("current", t.field.current_password, "password", "current-password")
    }

    /// A password to be set.
    pub(super) const fn new_password(t: &'a Texts) -> Self {
        Self {
            hint: Some(t.field.new_password_hint),
            rules: Some("minlength: 15; maxlength: 128; allowed: unicode;"),
            ..Self::new("password", t.field.new_password, "password", "new-password")
        }
    }

    /// The same once more.
    pub(super) const fn repeat(t: &'a Texts) -> Self {
        Self::new("repeat", t.field.repeat, "password", "new-password")
    }

    /// Ties the problem to the field, if there is one.
    pub(super) fn with(self, problem: Option<&Problem>) -> Self {
        let invalid = problem.is_some_and(|problem| problem.marks(self.id));
        Self { described: problem.is_some(), invalid, ..self }
    }

    /// Puts the cursor here when the page is opened.
    pub(super) const fn focus(self, focus: bool) -> Self {
        Self { focus, ..self }
    }
}
