//! The link as [`ControlLink`]: each question of the port as one of the wire.

use std::net::SocketAddr;

use mezusphere_model::clock::Timestamp;
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion,
    LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::Token;
use serde::Serialize;
use tracing::debug;

use super::ask::AskError;
use super::{LinkClient, LinkState};
use crate::wire::{
    AssertionFor, Batch, ByToken, Certified, CertifyKey, ConnectFrom, ConnectReply, Endpoint, Found, Nothing,
    TunnelsHeld,
};

impl From<AskError> for LinkError {
    fn from(why: AskError) -> Self {
        match why {
            AskError::Refused(words) => Self::Refused(words),
            AskError::Away(seen) | AskError::Damaged(seen) | AskError::Nonsense(seen) => {
                debug!(seen, "Control gave no answer");
                Self::Away
            }
        }
    }
}

impl LinkClient {
    async fn tell<Q: Serialize>(&self, endpoint: Endpoint, report: &Q) -> Result<(), LinkError> {
        let Nothing {} = self.shared.ask(endpoint, report).await?;
        Ok(())
    }
}

impl ControlLink for LinkClient {
    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        Box::pin(async move {
            let Certified { chain_der } = self.shared.ask(Endpoint::Certify, &CertifyKey { csr_der }).await?;
            Ok(chain_der)
        })
    }

    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::About, &about).await })
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        Box::pin(async move { Ok(self.shared.ask(Endpoint::Redeem, &code).await?) })
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        Box::pin(async move {
            let Found { found } = self.shared.ask(Endpoint::Find, &ByToken { token }).await?;
            Ok(found)
        })
    }

    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        Box::pin(async move {
            let question = AssertionFor::new(&credential, environment);
            Ok(self.shared.ask(Endpoint::Assertion, &question).await?)
        })
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::SignOut, &ByToken { token }).await })
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::Activity, &Batch { batch }).await })
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::Denials, &Batch { batch }).await })
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::Tunnel, &report).await })
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move { self.tell(Endpoint::Tunnels, &TunnelsHeld { held, at }).await })
    }

    fn contacts(&self) -> u64 {
        self.counts().connects
    }

    fn is_away(&self) -> bool {
        matches!(*self.connected().borrow(), LinkState::Away(_))
    }

    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        Box::pin(async move {
            let question = ConnectFrom { message, from };
            let ConnectReply { message } = self.shared.ask(Endpoint::Connect, &question).await?;
            Ok(message)
        })
    }
}
