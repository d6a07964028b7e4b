//! What the query of the sign-in page asks for beyond being signed in: `max_age` (seconds since the password was last
//! entered) and `acr` (how strongly), by an edge whose route demands it; `prompt` (a form although somebody is signed
//! in, or a choice of accounts). These can only make signing in harder, so anybody may write them.

use mezusphere_identity::flow::step_up::Demand;
use mezusphere_model::identity::Assurance;

use super::destination::{BadReturn, one};

/// What is asked for beyond being signed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) demand: Demand,
    pub(super) prompt: Option<Prompt>,
}

/// What to show to somebody who is signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// The form, for another account.
    Login,
    /// The choice of accounts.
    SelectAccount,
}

impl Wish {
    /// Reads the query's fields.
    pub(super) fn read(fields: &[(String, String)]) -> Result<Self, BadReturn> {
        let max_age_s = one(fields, "max_age")?.map(str::parse).transpose().map_err(|_| BadReturn)?;
        let assurance = match one(fields, "acr")? {
            None => Assurance::default(),
            Some(text) => {
                let known = [Assurance::Aal1, Assurance::Aal2].into_iter();
                known.into_iter().find(|assurance| assurance.as_str() == text).ok_or(BadReturn)?
            }
        };
        let prompt = match one(fields, "prompt")? {
            None => None,
            Some(text) => {
                let known = Prompt::ALL.into_iter().find(|prompt| prompt.as_str() == text);
                Some(known.ok_or(BadReturn)?)
            }
        };
        Ok(Self { demand: Demand { assurance, max_age_s }, prompt })
    }

    /// The same as a query says it.
    pub(super) fn fields(self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if let Some(max_age_s) = self.demand.max_age_s {
            fields.push(("max_age", max_age_s.to_string()));
        }
        if self.demand.assurance != Assurance::default() {
            fields.push(("acr", self.demand.assurance.as_str().to_owned()));
        }
        fields.extend(self.prompt.map(|prompt| ("prompt", prompt.as_str().to_owned())));
        fields
    }
}

impl Prompt {
    const ALL: [Self; 2] = [Self::Login, Self::SelectAccount];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::SelectAccount => "select_account",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_reads_as_it_is_written() {
        for (assurance, max_age_s, prompt) in [
            (Assurance::Aal1, None, None),
            (Assurance::Aal2, Some(600), Some(Prompt::Login)),
            (Assurance::Aal1, Some(0), Some(Prompt::SelectAccount)),
        ] {
            let wish = Wish { demand: Demand { assurance, max_age_s }, prompt };
            let fields: Vec<_> =
                wish.fields().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(Wish::read(&fields), Ok(wish));
        }
    }
}
