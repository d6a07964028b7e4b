//! Assertions a split edge was given, remembered over its restarts: while control is away, a signed-in user whose edge
//! was restarted goes on until the assertion ends.
//!
//! An answer of control's always wins; what is remembered is asked for only when control gave none. It is filed under a
//! digest of the client's own credential, so it is found only by who presents that again, and warpgates judge it as ever.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use mezusphere_model::Timestamp;
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion,
    LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::Token;
use mezusphere_store::Replica;

/// A link whose assertions are remembered in the replica.
pub(crate) struct Remembering {
    link: Arc<dyn ControlLink>,
    replica: Arc<Replica>,
}

impl Remembering {
    /// Remembers what `link` answers.
    pub(crate) fn new(link: Arc<dyn ControlLink>, replica: Arc<Replica>) -> Self {
        Self { link, replica }
    }
}

/// What an assertion for this credential in this environment is filed under.
fn place(credential: &Credential, environment: EnvironmentId) -> [u8; 32] {
    let mut text = b"assertion\0".to_vec();
    text.extend(environment.bits().to_be_bytes());
    match credential {
        Credential::Session(token) => {
            text.push(0);
            text.extend(token.as_bytes());
        }
        Credential::ApiKey(key) => {
            text.push(1);
            text.extend(key.id.bits().to_be_bytes());
            text.extend(key.secret.as_bytes());
        }
    }
    let mut place = [0; 32];
    place.copy_from_slice(digest(&SHA256, &text).as_ref());
    place
}

impl ControlLink for Remembering {
    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        Box::pin(async move {
            let place = place(&credential, environment);
            let answered = self.link.assertion(credential, environment).await;
            match &answered {
                Ok(issued) => {
                    if let Ok(text) = serde_json::to_vec(issued) {
                        self.replica.keep(&place, &text, issued.expires_at);
                    }
                }
                Err(LinkError::Away) => {
                    let kept = self.replica.kept(&place);
                    if let Some(issued) = kept.and_then(|text| serde_json::from_slice(&text).ok()) {
                        return Ok(issued);
                    }
                }
                Err(LinkError::Refused(_)) => {}
            }
            answered
        })
    }

    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        self.link.certify(csr_der)
    }

    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        self.link.about(about)
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        self.link.redeem(code)
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        self.link.find_session(token)
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        self.link.sign_out(token)
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        self.link.activity(batch)
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        self.link.denials(batch)
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        self.link.tunnel(report)
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        self.link.tunnels(held, at)
    }

    fn contacts(&self) -> u64 {
        self.link.contacts()
    }

    fn is_away(&self) -> bool {
        self.link.is_away()
    }

    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        self.link.connect(message, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezusphere_model::Entropy;
    use mezusphere_model::id::ApiKeyId;
    use mezusphere_model::token::ApiKeyToken;

    #[test]
    fn an_assertion_is_found_only_by_its_credential_and_environment() {
        let entropy = Entropy::counting();
        let (one, other) = (EnvironmentId::random(&entropy), EnvironmentId::random(&entropy));
        let token = Token::random(&entropy);
        let key = ApiKeyToken { id: ApiKeyId::random(&entropy), secret: token.clone() };
        let session = Credential::Session(token);
        let places = [
            place(&session, one),
            place(&session, other),
            place(&Credential::ApiKey(key), one),
            place(&Credential::Session(Token::random(&entropy)), one),
        ];
        for (at, place) in places.iter().enumerate() {
            assert!(places.iter().skip(at + 1).all(|other| other != place));
        }
        assert_eq!(place(&session, one), places[0]);
    }
}
