//! One look at the DNS for a claim's record, and its words for people.

use mezusphere_store::primary::host_claim::ClaimRow;

use super::{LookupError, MARK, Resolver, record, value};

/// Longest text of a foreign record that is repeated to people, in characters.
const ECHO_LEN_MAX: usize = 80;

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The record, as it must be.
    Proven {
        /// What else is there that proves a host, to somebody.
        beside: Vec<String>,
    },
    /// No TXT record of that name.
    Missing,
    /// TXT records, none of them ours; the first of them, as it may be shown.
    Other(String),
    /// The DNS told neither.
    Failed(LookupError),
}

impl Finding {
    /// The sentence for people; of a proof: nothing.
    pub(crate) fn sentence(&self, claim: &ClaimRow) -> String {
        let name = record(&claim.host);
        match self {
            Self::Proven { .. } => String::new(),
            Self::Missing => format!("there is no TXT record at {name} yet"),
            Self::Other(text) => format!("the TXT record at {name} says {text:?}"),
            Self::Failed(why) => format!("{name} could not be looked up: {why}"),
        }
    }
}

/// Looks whether the claim's record is published.
pub(crate) async fn look(resolver: &Resolver, claim: &ClaimRow) -> Finding {
    let wanted = value(&claim.token);
    match resolver.txt(&record(&claim.host)).await {
        Err(why) => Finding::Failed(why),
        Ok(texts) if texts.iter().any(|text| text.trim() == wanted) => {
            let ours = texts.iter().map(|text| text.trim()).filter(|text| text.starts_with(MARK));
            Finding::Proven { beside: ours.filter(|text| *text != wanted).map(str::to_owned).collect() }
        }
        Ok(texts) => match texts.first() {
            None => Finding::Missing,
            Some(text) => Finding::Other(
                // What strangers publish must not disturb a terminal.
                text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(ECHO_LEN_MAX).collect(),
            ),
        },
    }
}
