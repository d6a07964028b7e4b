//! Control in memory: signs assertions, knows the sessions it is told of, counts what it is asked, and can be away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{
    Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion, LinkError,
    RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::{Token, TokenHash};
use mezusphere_model::{Clock, Identity};
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::jws::SigningKey;

use crate::world::{PROJECT, identity_of_key};

pub(crate) struct FakeLink {
    pub(crate) key: SigningKey,
    pub(crate) clock: Clock,
    /// What is asked fails.
    pub(crate) away: AtomicBool,
    /// Assertions are refused.
    pub(crate) refuses: AtomicBool,
    pub(crate) life: Mutex<Duration>,
    /// Sessions control knows, by the hash of their tokens.
    pub(crate) sessions: Mutex<HashMap<TokenHash, (FoundSession, Identity)>>,
    /// What the next hand-off code becomes.
    pub(crate) redeems: Mutex<Option<Redeemed>>,
    pub(crate) redeemed: Mutex<Vec<RedeemCode>>,
    pub(crate) signed_out: Mutex<Vec<TokenHash>>,
    pub(crate) looked_up: AtomicUsize,
    pub(crate) asserted: AtomicUsize,
    pub(crate) seen: Mutex<Vec<Activity>>,
    pub(crate) denied: Mutex<Vec<DenialCount>>,
    pub(crate) tunnels: Mutex<Vec<TunnelReport>>,
}

impl FakeLink {
    pub(crate) fn new(key: SigningKey, clock: Clock) -> Self {
        Self {
            key,
            clock,
            away: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            life: Mutex::new(Duration::from_mins(30)),
            sessions: Mutex::default(),
            redeems: Mutex::default(),
            redeemed: Mutex::default(),
            signed_out: Mutex::default(),
            looked_up: AtomicUsize::new(0),
            asserted: AtomicUsize::new(0),
            seen: Mutex::default(),
            denied: Mutex::default(),
            tunnels: Mutex::default(),
        }
    }

    fn present(&self) -> Result<(), LinkError> {
        if self.away.load(Ordering::SeqCst) { Err(LinkError::Away) } else { Ok(()) }
    }
}

fn ready<T: Send + 'static>(answer: Result<T, LinkError>) -> Answer<'static, Result<T, LinkError>> {
    // Through the scheduler, as a real question would go.
    Box::pin(async move {
        tokio::task::yield_now().await;
        answer
    })
}

impl ControlLink for FakeLink {
    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        self.redeemed.lock().unwrap().push(code);
        let redeemed = self.redeems.lock().unwrap().take();
        ready(self.present().and_then(|()| redeemed.ok_or(LinkError::Refused("code.unknown".to_owned()))))
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        let found = self.sessions.lock().unwrap().get(&token.hash()).map(|(found, _)| found.clone());
        ready(self.present().map(|()| found))
    }

    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        self.asserted.fetch_add(1, Ordering::SeqCst);
        let identity = match credential {
            Credential::Session(token) => {
                let sessions = self.sessions.lock().unwrap();
                sessions.get(&token.hash()).map(|(found, identity)| (found.session.project, identity.clone()))
            }
            Credential::ApiKey(_) => Some((PROJECT, identity_of_key(self.clock.now()))),
        };
        let refused = identity.is_none() || self.refuses.load(Ordering::SeqCst);
        let (Some((project, identity)), false, Ok(())) = (identity, refused, self.present()) else {
            let refusal = LinkError::Refused("session.ended".to_owned());
            return ready(Err(if refused { refusal } else { LinkError::Away }));
        };
        let audience = Audience { project, environment };
        let life = *self.life.lock().unwrap();
        let claims = Claims::with_life(&identity, "spiffe://mezu.example", audience, self.clock.now(), life);
        let jws = assertion::sign(&self.key, &claims).unwrap();
        ready(Ok(IssuedAssertion { jws, expires_at: claims.expires_at(), principal_version: 1 }))
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        self.signed_out.lock().unwrap().push(token.hash());
        ready(self.present())
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        self.seen.lock().unwrap().extend(batch);
        ready(self.present())
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        self.denied.lock().unwrap().extend(batch);
        ready(self.present())
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        self.tunnels.lock().unwrap().push(report);
        ready(self.present())
    }

    fn connect(&self, message: Vec<u8>, _: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        ready(self.present().map(|()| message))
    }
}
