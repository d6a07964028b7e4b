//! Control in memory: signs assertions, knows the sessions it is told of, counts what it is asked, and can be away, silent
//! or out of its mind.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mezusphere_model::id::EnvironmentId;
use mezusphere_model::link::{
    AboutEdge, Activity, Answer, ControlLink, Credential, DenialCount, FoundSession, IssuedAssertion,
    LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::token::{Token, TokenHash};
use mezusphere_model::{Clock, Identity, Timestamp};
use tokio::sync::Semaphore;
use tunnel_proto::assertion::{self, Audience, Claims};
use tunnel_proto::jws::SigningKey;

use crate::world::{PROJECT, identity_of_key};

pub(crate) struct FakeLink {
    pub(crate) key: SigningKey,
    pub(crate) clock: Clock,
    /// What is asked fails.
    pub(crate) away: AtomicBool,
    /// What is asked is never answered.
    pub(crate) silent: AtomicBool,
    /// What is asked is answered with what makes no sense.
    pub(crate) mad: AtomicBool,
    /// Its assertions then.
    pub(crate) nonsense: Mutex<String>,
    /// Each answer of a session waits for a permit; what it says is what was true when it was asked.
    pub(crate) holds: Mutex<Option<Arc<Semaphore>>>,
    /// How often control was found anew.
    pub(crate) contacts: AtomicU64,
    /// What control lists as this edge's tunnels: the newest report of each warpgate.
    pub(crate) listed: Mutex<BTreeMap<String, TunnelReport>>,
    /// Reports of all tunnels.
    pub(crate) told_all: AtomicUsize,
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
            silent: AtomicBool::new(false),
            mad: AtomicBool::new(false),
            nonsense: Mutex::default(),
            holds: Mutex::default(),
            contacts: AtomicU64::new(0),
            listed: Mutex::default(),
            told_all: AtomicUsize::new(0),
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

    fn ready<T: Send + 'static>(
        &self,
        answer: Result<T, LinkError>,
    ) -> Answer<'static, Result<T, LinkError>> {
        let silent = self.silent.load(Ordering::SeqCst);
        // Through the scheduler, as a real question would go.
        Box::pin(async move {
            tokio::task::yield_now().await;
            if silent { std::future::pending().await } else { answer }
        })
    }

    /// Questions asked by or for clients, of any kind.
    pub(crate) fn questions(&self) -> usize {
        let count = |asked: &AtomicUsize| asked.load(Ordering::SeqCst);
        count(&self.looked_up)
            + count(&self.asserted)
            + self.redeemed.lock().unwrap().len()
            + self.signed_out.lock().unwrap().len()
    }

    /// The warpgates that are listed as connected.
    pub(crate) fn connected(&self) -> Vec<String> {
        let listed = self.listed.lock().unwrap();
        listed.values().filter(|report| report.connected).map(|report| report.warpgate.clone()).collect()
    }
}

/// As control's table does it: what is older than what is known changes nothing.
fn list(listed: &mut BTreeMap<String, TunnelReport>, report: TunnelReport) {
    let known = listed.get(&report.warpgate);
    if known.is_none_or(|known| known.at <= report.at) {
        listed.insert(report.warpgate.clone(), report);
    }
}

impl ControlLink for FakeLink {
    fn certify(&self, _: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        self.ready(Err(LinkError::Refused("the request path certifies nothing".to_owned())))
    }

    fn about(&self, _: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        self.ready(self.present())
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        if self.present().is_ok() {
            self.told_all.fetch_add(1, Ordering::SeqCst);
            let mut listed = self.listed.lock().unwrap();
            let is_held = |uri: &String| held.iter().any(|report| report.warpgate == *uri);
            for (uri, known) in listed.iter_mut().filter(|(_, known)| known.at <= at) {
                known.connected &= is_held(uri);
            }
            for report in held {
                list(&mut listed, report);
            }
        }
        self.ready(self.present())
    }

    fn contacts(&self) -> u64 {
        self.contacts.load(Ordering::SeqCst)
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        self.redeemed.lock().unwrap().push(code);
        let mut redeemed = self.redeems.lock().unwrap().take();
        if self.mad.load(Ordering::SeqCst)
            && let Some(redeemed) = &mut redeemed
        {
            "no token".clone_into(&mut redeemed.token);
        }
        self.ready(
            self.present().and_then(|()| redeemed.ok_or(LinkError::Refused("code.unknown".to_owned()))),
        )
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        let mut found = self.sessions.lock().unwrap().get(&token.hash()).map(|(found, _)| found.clone());
        if self.mad.load(Ordering::SeqCst)
            && let Some(found) = &mut found
        {
            found.session.token_hash = TokenHash::from_bytes([0; 32]);
        }
        let answer = self.ready(self.present().map(|()| found));
        let holds = self.holds.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(holds) = holds {
                holds.acquire().await.unwrap().forget();
            }
            answer.await
        })
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
            return self.ready(Err(if refused { refusal } else { LinkError::Away }));
        };
        let audience = Audience { project, environment };
        let life = *self.life.lock().unwrap();
        let claims = Claims::with_life(&identity, "spiffe://mezu.example", audience, self.clock.now(), life);
        let jws = assertion::sign(&self.key, &claims).unwrap();
        let mut issued = IssuedAssertion { jws, expires_at: claims.expires_at(), principal_version: 1 };
        if self.mad.load(Ordering::SeqCst) {
            issued.jws.clone_from(&self.nonsense.lock().unwrap());
        }
        self.ready(Ok(issued))
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        self.signed_out.lock().unwrap().push(token.hash());
        self.ready(self.present())
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        if self.present().is_ok() {
            self.seen.lock().unwrap().extend(batch);
        }
        self.ready(self.present())
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        if self.present().is_ok() {
            self.denied.lock().unwrap().extend(batch);
        }
        self.ready(self.present())
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        if self.present().is_ok() {
            list(&mut self.listed.lock().unwrap(), report.clone());
            self.tunnels.lock().unwrap().push(report);
        }
        self.ready(self.present())
    }

    fn connect(&self, message: Vec<u8>, _: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        self.ready(self.present().map(|()| message))
    }
}
