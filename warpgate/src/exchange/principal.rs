//! Who sends a request: assertions verified once per slot of a tunnel, then remembered until they expire.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderMap;
use mezusphere_model::{Identity, Timestamp};
use tokio::sync::mpsc;
use tunnel_proto::assertion::{self, AssertionError};
use tunnel_proto::exchange::{FailureCode, IdentityRef};
use tunnel_proto::headers;
use tunnel_proto::principals::Known;

use super::{Refused, propagate};
use crate::bundle::Trusted;

/// A caller whose assertion control signed.
#[derive(Debug)]
pub(crate) struct Verified {
    /// What policy decides on.
    pub(crate) identity: Identity,
    /// The identity headers, ready to be copied into each request.
    headers: HeaderMap,
    /// The same in other proxies' words, made at the first request of a route that asks for them.
    aliases: OnceLock<propagate::Caller>,
    expires_at: Timestamp,
    /// Of the keys it was verified with.
    keys_generation: u64,
}

impl Verified {
    /// Writes the identity headers over whatever was there.
    pub(crate) fn write_headers(&self, to: &mut HeaderMap) {
        for (name, value) in &self.headers {
            to.insert(name.clone(), value.clone());
        }
    }

    /// What other proxies would call the caller.
    pub(super) fn aliases(&self) -> &propagate::Caller {
        self.aliases.get_or_init(|| propagate::Caller::of(&self.identity))
    }
}

/// The identities one tunnel has brought. Dies with it.
pub(crate) struct Principals {
    /// One thread uses it, so the lock is never waited for.
    known: Mutex<Known<Arc<Verified>>>,
    /// Slots to acknowledge. If the queue is full the edge sends that assertion in full once more.
    acknowledge: mpsc::Sender<u64>,
}

impl Principals {
    pub(crate) fn new(acknowledge: mpsc::Sender<u64>) -> Self {
        Self { known: Mutex::new(Known::new()), acknowledge }
    }

    /// The caller an edge names, if control says so too. What the edge says alone counts for nothing.
    pub(crate) fn find(
        &self,
        named: &IdentityRef,
        trusted: &Trusted,
        now: Timestamp,
    ) -> Result<Option<Arc<Verified>>, Refused> {
        match named {
            IdentityRef::None => Ok(None),
            IdentityRef::Known(slot) => self.remembered(*slot, trusted, now).map(Some),
            IdentityRef::Full { slot, assertion } => {
                let verified = Arc::new(verify(assertion, trusted, now)?);
                let remembered = {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.remember(*slot, Arc::clone(&verified))
                };
                if remembered {
                    let (Ok(()) | Err(_)) = self.acknowledge.try_send(*slot);
                }
                Ok(Some(verified))
            }
        }
    }

    fn remembered(&self, slot: u64, trusted: &Trusted, now: Timestamp) -> Result<Arc<Verified>, Refused> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || Refused::new(FailureCode::UnknownPrincipal, format!("slot {slot} is not known"));
        let verified = known.get(slot).cloned().ok_or_else(unknown)?;
        if verified.keys_generation != trusted.keys_generation {
            known.forget(slot);
            return Err(unknown());
        }
        if now >= verified.expires_at {
            known.forget(slot);
            return Err(invalid(&AssertionError::Expired));
        }
        Ok(verified)
    }
}

fn verify(jws: &[u8], trusted: &Trusted, now: Timestamp) -> Result<Verified, Refused> {
    let jws = std::str::from_utf8(jws).map_err(|_| invalid(&AssertionError::Claims))?;
    let claims = assertion::verify(jws, &trusted.assertion_keys, trusted.audience, now)
        .map_err(|why| invalid(&why))?;
    let mut identity_headers = HeaderMap::new();
    headers::set_identity(&mut identity_headers, Some((&claims, jws)));
    Ok(Verified {
        identity: claims.identity(),
        headers: identity_headers,
        aliases: OnceLock::new(),
        expires_at: claims.expires_at(),
        keys_generation: trusted.keys_generation,
    })
}

fn invalid(why: &AssertionError) -> Refused {
    Refused::new(FailureCode::AssertionInvalid, why.to_string())
}
