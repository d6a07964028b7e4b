//! When a peer's certificate is good, read out of the error that it is not good now: beside the time here it shows whose clock
//! is wrong.

use std::fmt;

use mezusphere_model::Timestamp;
use rustls::CertificateError;
use rustls_pki_types::UnixTime;

/// Why a certificate is not good now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// It ended then.
    Ended(Timestamp),
    /// It begins then.
    Begins(Timestamp),
}

impl NotNow {
    /// What TLS over TCP said.
    pub(crate) fn of(error: &CertificateError) -> Option<Self> {
        match error {
            CertificateError::ExpiredContext { not_after, .. } => Some(Self::Ended(timestamp(*not_after))),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Some(Self::Begins(timestamp(*not_before)))
            }
            _ => None,
        }
    }

    /// The same out of its text: QUIC passes on nothing else.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let after = |words: &str| {
            let (_, rest) = text.split_once(words)?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok().map(Timestamp::from_seconds)
        };
        after("is not valid after ")
            .map(Self::Ended)
            .or_else(|| after("is not valid before ").map(Self::Begins))
    }
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(at) => write!(f, "it ended at {at}"),
            Self::Begins(at) => write!(f, "it is good only from {at}"),
        }
    }
}

fn timestamp(at: UnixTime) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_dates_are_read_out_of_the_error_and_out_of_its_text_alike() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (then, now) = (Timestamp::from_seconds(1_799_990_000), at(1_800_000_000));
        let rows = [
            (
                CertificateError::ExpiredContext { time: now, not_after: at(1_799_990_000) },
                Some(NotNow::Ended(then)),
            ),
            (
                CertificateError::NotValidYetContext { time: now, not_before: at(1_799_990_000) },
                Some(NotNow::Begins(then)),
            ),
            (CertificateError::UnknownIssuer, None),
        ];
        for (error, read) in rows {
            assert_eq!(NotNow::of(&error), read);
            // As quinn has it: the text of the whole.
            assert_eq!(NotNow::of_text(&rustls::Error::InvalidCertificate(error).to_string()), read);
        }
    }
}
