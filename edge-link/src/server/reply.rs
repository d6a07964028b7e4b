//! What a question gets instead of an answer, and the one place where it becomes a status.

use http::StatusCode;
use mezusphere_model::link::LinkError;
use mezusphere_store::feed::FeedError;

use crate::body::{BodyError, Encoded};
use crate::wire::{Problem, Word};

/// Why a question is not answered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) word: Word,
    message: String,
}

impl Failure {
    pub(super) fn new(word: Word, message: impl Into<String>) -> Self {
        Self { word, message: message.into() }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.word {
            Word::Malformed => StatusCode::BAD_REQUEST,
            Word::Unknown => StatusCode::NOT_FOUND,
            Word::Refused => StatusCode::CONFLICT,
            Word::Damaged => StatusCode::INTERNAL_SERVER_ERROR,
            Word::Away | Word::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) async fn encoded(self) -> Result<Encoded, BodyError> {
        crate::body::encode(&Problem { error: self.word, message: self.message }, false).await
    }
}

impl From<BodyError> for Failure {
    fn from(why: BodyError) -> Self {
        Self::new(Word::Malformed, why.to_string())
    }
}

impl From<LinkError> for Failure {
    fn from(why: LinkError) -> Self {
        match why {
            LinkError::Away => Self::new(Word::Away, "control cannot answer now"),
            LinkError::Refused(words) => Self::new(Word::Refused, words),
        }
    }
}

impl From<FeedError> for Failure {
    fn from(why: FeedError) -> Self {
        match why {
            FeedError::Away(words) => Self::new(Word::Away, words),
            FeedError::Damaged(words) => Self::new(Word::Damaged, words),
        }
    }
}
