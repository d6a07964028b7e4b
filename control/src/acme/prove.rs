//! Proving that names are ours: choosing a challenge for each, having edges answer it or a DNS record set, and telling the
//! authority to look.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, Order, Problem,
};
use mezusphere_model::Host;
use mezusphere_model::document::{AcmeChallengeDoc, Partition};
use mezusphere_store::primary::acme;
use mezusphere_store::primary::node::{self as nodes, NodeId};
use tokio::time::Instant;

use super::answer;
use super::dns::DnsRecord;
use super::engine::{Stopped, Trouble, fence};
use super::failure::{Failure, Fault, quoted};
use super::open::{self, OPEN_FOR};
use super::order::{Attempt, insist};
use super::{AcmeChallenge, AcmeConfig};

/// Longest token of a challenge, in characters; authorities use 43.
const TOKEN_LEN_MAX: usize = 256;

/// What the authority asks about one name.
#[derive(Clone, Debug)]
struct Asked {
    /// The name, without `*.`.
    name: String,
    is_wildcard: bool,
    status: AuthorizationStatus,
    /// What it offers: kind and token.
    offered: Vec<(AcmeChallenge, String)>,
    /// What it says went wrong with one.
    error: Option<(&'static str, Problem)>,
}

/// How one name is to be proved.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proof {
    kind: AcmeChallenge,
    host: Host,
    is_wildcard: bool,
    token: String,
}

impl Attempt<'_> {
    /// Has every name that the authority asks about answered for, and tells it to look.
    pub(super) async fn prove(&mut self, account: &Account, order: &mut Order) -> Result<(), Trouble> {
        let asked = self.asked(order, false).await?;
        let mut proofs = Vec::new();
        for asked in asked.iter().filter(|asked| asked.status == AuthorizationStatus::Pending) {
            proofs.push(choose(asked, &self.row.names, &self.engine.config, self.row.attempts)?);
        }
        self.answer_for(account.key_thumbprint(), &proofs).await?;
        insist!(tell(order, &proofs)).map_err(|why| self.failure(&why))?;
        Ok(())
    }

    /// What the authority asks about each name of the order; `anew`: as it is now.
    async fn asked(&mut self, order: &mut Order, anew: bool) -> Result<Vec<Asked>, Failure> {
        // Each is read by a request of its own, and there is one for each name (RFC 8555 §7.1.3).
        let count = order.state().authorizations.len();
        if count > self.row.names.len() {
            let text = format!("the authority asks for {count} proofs of {} names", self.row.names.len());
            return Err(Failure::new(Fault::Nonsense, text).ends_order());
        }
        insist!(read(order, anew)).map_err(|why| self.failure(&why))
    }

    /// Publishes what edges answer, sets records, and waits until both are there.
    async fn answer_for(&self, thumbprint: &str, proofs: &[Proof]) -> Result<(), Trouble> {
        let (mut docs, mut records) = (Vec::new(), Vec::new());
        let expires_at = self.engine.shared.clock.now().after(OPEN_FOR);
        for proof in proofs {
            let key_authorization = format!("{}.{thumbprint}", proof.token);
            if proof.kind == AcmeChallenge::Dns01 {
                let value = BASE64URL.encode(digest(&SHA256, key_authorization.as_bytes()));
                records.push(DnsRecord { name: format!("_acme-challenge.{}", proof.host), value });
            } else {
                let (host, token) = (proof.host.clone(), proof.token.clone());
                docs.push(AcmeChallengeDoc { host, token, key_authorization, expires_at });
            }
        }
        let told: BTreeSet<String> =
            proofs.iter().map(|proof| format!("{} by {}", proof.host, proof.kind)).collect();
        let told = told.into_iter().collect::<Vec<_>>().join(", ");
        let (lease, name) = (self.lease, self.row.name.as_str());
        let has_docs = !docs.is_empty();
        let published = self.engine.shared.primary.write_published(async |tx| {
            fence(tx, lease).await?;
            open::add(tx, name, docs, &records).await?;
            acme::add_event(tx, name, "challenge", &format!("The authority asks for a proof: {told}"))
                .await?;
            Ok::<_, Stopped>(())
        });
        let ((), published) = published.await?;
        self.set_records(&records).await?;
        match published.revision(Partition::Platform).filter(|_| has_docs) {
            Some(revision) => self.wait_for_edges(revision).await,
            None => Ok(()),
        }
    }

    async fn set_records(&self, records: &[DnsRecord]) -> Result<(), Trouble> {
        for record in records {
            let hook =
                self.engine.hook.as_ref().ok_or_else(|| Failure::new(Fault::NoChallenge, "no DNS hook"))?;
            match hook.present(record).await {
                Ok(said) => {
                    self.note("hook", &told(&format!("The DNS hook set {}", record.name), &said)).await?;
                }
                Err(why) => return Err(Failure::new(Fault::Hook, quoted(&why.to_string())).into()),
            }
        }
        Ok(())
    }

    /// Removes what [`Self::set_records`] set. What cannot be removed is told and left: nobody can do more about it.
    pub(super) async fn remove_records(&self) -> Result<(), Stopped> {
        self.engine.remove_records(self.lease, &self.row.name).await
    }

    /// Waits until every live edge answers what was published at this revision. Goes on without the slow ones when time is
    /// up: they may be as good as dead, and the authority asks whichever the name leads to.
    async fn wait_for_edges(&self, revision: u64) -> Result<(), Trouble> {
        let pace = self.engine.pace;
        let end = Instant::now() + pace.edges;
        loop {
            let (ready, behind) = self.edges(revision).await?;
            if behind.is_empty() && !ready.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                if ready.is_empty() {
                    let text = match behind.as_slice() {
                        [] => "no edge is connected that could answer the authority".to_owned(),
                        behind => format!("no edge took the challenge in time: {}", behind.join(", ")),
                    };
                    return Err(Failure::new(Fault::Edges, text).into());
                }
                self.note("edges", &format!("Went on without slow edges: {}", behind.join(", "))).await?;
                return Ok(());
            }
            tokio::time::sleep(pace.edges_look).await;
        }
    }

    /// Names of live edges that have applied this revision, and of those that have not.
    async fn edges(&self, revision: u64) -> Result<(Vec<String>, Vec<String>), Trouble> {
        let primary = &self.engine.shared.primary;
        let epoch = primary.epoch();
        let applied = primary.applied_by(Partition::Platform).await?;
        let rows = primary.read(async |tx| nodes::list(tx).await).await?;
        let (mut ready, mut behind) = (Vec::new(), Vec::new());
        for row in rows {
            let NodeId::Edge(id) = row.id else { continue };
            if row.connected_to.is_none() || row.denied_at.is_some() {
                continue;
            }
            let follower = id.to_string();
            let is_ready = applied.iter().any(|report| {
                report.follower == follower
                    && report.cursor.epoch == epoch
                    && report.cursor.revision >= revision
            });
            if is_ready { ready.push(row.name) } else { behind.push(row.name) }
        }
        Ok((ready, behind))
    }

    /// Why an order became invalid, as far as the authority says.
    pub(super) async fn why_invalid(&mut self, order: &mut Order) -> Failure {
        let asked = match self.asked(order, true).await {
            Ok(asked) => asked,
            Err(why) => return why.ends_order(),
        };
        for asked in asked {
            if let Some((kind, problem)) = asked.error {
                let failure = answer::of_problem(&problem);
                let text = format!("{} by {kind}: {}", asked.name, failure.text);
                return Failure { text, ..failure }.ends_order();
            }
        }
        match &order.state().error {
            Some(problem) => answer::of_problem(problem).ends_order(),
            None => Failure::new(Fault::Nonsense, "the authority gave the order up and does not say why")
                .ends_order(),
        }
    }
}

/// What was done, and what was said meanwhile.
pub(super) fn told(what: &str, said: &str) -> String {
    let said = quoted(said);
    if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") }
}

/// Reads what the authority asks about each name of the order; `anew`: as it is now.
async fn read(order: &mut Order, anew: bool) -> Result<Vec<Asked>, Error> {
    let mut all = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        if anew {
            authorization.refresh().await?;
        }
        let Identifier::Dns(name) = authorization.identifier().identifier.clone() else {
            return Err(Error::Str("an authorization for a DNS name"));
        };
        let (mut offered, mut error) = (Vec::new(), None);
        for challenge in &authorization.challenges {
            let Some(kind) = kind_of(&challenge.r#type) else { continue };
            if let Some(problem) =
                challenge.error.clone().filter(|_| challenge.status == ChallengeStatus::Invalid)
            {
                error = Some((kind.name(), problem));
            }
            offered.push((kind, challenge.token.clone()));
        }
        let (is_wildcard, status) = (authorization.wildcard, authorization.status);
        all.push(Asked { name, is_wildcard, status, offered, error });
    }
    Ok(all)
}

/// Tells the authority to look at what was chosen.
async fn tell(order: &mut Order, proofs: &[Proof]) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut authorization = next?;
        let name = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            _ => continue,
        };
        let is_wildcard = authorization.wildcard;
        let is_this = |proof: &&Proof| proof.host.as_str() == name && proof.is_wildcard == is_wildcard;
        let Some(proof) = proofs.iter().find(is_this) else { continue };
        let Some(mut challenge) = authorization.challenge(type_of(proof.kind)) else { continue };
        if challenge.status != ChallengeStatus::Pending {
            continue;
        }
        match challenge.set_ready().await {
            Ok(()) => {}
            Err(why) if answer::is_bad_nonce(&why) => return Err(why),
            // It has looked already, or says at once what it found: the order tells which.
            Err(Error::Api(problem)) => {
                tracing::debug!(problem = %quoted(&problem.to_string()), "An authority objects to being told to look");
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

fn kind_of(kind: &ChallengeType) -> Option<AcmeChallenge> {
    match kind {
        ChallengeType::Http01 => Some(AcmeChallenge::Http01),
        ChallengeType::TlsAlpn01 => Some(AcmeChallenge::TlsAlpn01),
        ChallengeType::Dns01 => Some(AcmeChallenge::Dns01),
        _ => None,
    }
}

fn type_of(kind: AcmeChallenge) -> ChallengeType {
    match kind {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        AcmeChallenge::Dns01 => ChallengeType::Dns01,
    }
}

/// How a name is proved: by the challenges that are configured, in order; after each failure by the next one, because a
/// port may be closed that nobody here sees.
fn choose(asked: &Asked, names: &[String], config: &AcmeConfig, failures: u32) -> Result<Proof, Failure> {
    let wanted = if asked.is_wildcard { format!("*.{}", asked.name) } else { asked.name.clone() };
    let nonsense = |what: &str| Failure::new(Fault::Nonsense, what).ends_order();
    if !names.contains(&wanted) {
        return Err(nonsense("the authority asks about a name that was not ordered"));
    }
    let host =
        Host::parse(&asked.name).map_err(|_| nonsense("the authority asks about what is no host name"))?;
    let is_possible = |kind: AcmeChallenge| match kind {
        AcmeChallenge::Dns01 => config.dns_hook.is_some(),
        _ => !asked.is_wildcard,
    };
    let mut kinds = config.challenges.clone();
    if asked.is_wildcard && !kinds.contains(&AcmeChallenge::Dns01) {
        kinds.push(AcmeChallenge::Dns01);
    }
    let offer = |kind: AcmeChallenge| asked.offered.iter().find(|(offered, _)| *offered == kind);
    let usable: Vec<_> = kinds.into_iter().filter(|kind| is_possible(*kind)).filter_map(offer).collect();
    let turn = usize::try_from(failures).unwrap_or(0).checked_rem(usable.len()).unwrap_or(0);
    let Some((kind, token)) = usable.get(turn) else {
        let offered: Vec<_> = asked.offered.iter().map(|(kind, _)| kind.name()).collect();
        let text = format!("{wanted} can be proved only by: {}", offered.join(", "));
        return Err(Failure::new(Fault::NoChallenge, text).ends_order());
    };
    let is_token = (1..=TOKEN_LEN_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !is_token {
        return Err(nonsense("the authority's token is none"));
    }
    Ok(Proof { kind: *kind, host, is_wildcard: asked.is_wildcard, token: token.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: AcmeChallenge = AcmeChallenge::Http01;
    const ALPN: AcmeChallenge = AcmeChallenge::TlsAlpn01;
    const DNS: AcmeChallenge = AcmeChallenge::Dns01;

    fn asked(name: &str, is_wildcard: bool, offered: &[AcmeChallenge]) -> Asked {
        Asked {
            name: name.to_owned(),
            is_wildcard,
            status: AuthorizationStatus::Pending,
            offered: offered.iter().map(|kind| (*kind, format!("token-{kind}"))).collect(),
            error: None,
        }
    }

    fn config() -> AcmeConfig {
        AcmeConfig::new("letsencrypt".parse().unwrap())
    }

    fn kind(asked: &Asked, config: &AcmeConfig, failures: u32) -> Result<AcmeChallenge, Fault> {
        let names = ["shop.example".to_owned(), "*.apps.example".to_owned()];
        choose(asked, &names, config, failures).map(|proof| proof.kind).map_err(|failure| failure.fault)
    }

    #[test]
    fn challenges_take_turns_after_failures() {
        let all = asked("shop.example", false, &[DNS, HTTP, ALPN]);
        let turns: Vec<_> = (0..4).map(|failures| kind(&all, &config(), failures).unwrap()).collect();
        assert_eq!(turns, [ALPN, HTTP, ALPN, HTTP], "no record is set without a program that does it");
        let hooked = AcmeConfig { dns_hook: Some("/bin/hook".into()), challenges: vec![DNS], ..config() };
        assert_eq!(kind(&all, &hooked, 7), Ok(DNS));
        assert_eq!(kind(&asked("shop.example", false, &[HTTP]), &config(), 0), Ok(HTTP));
        assert_eq!(kind(&asked("shop.example", false, &[DNS]), &config(), 0), Err(Fault::NoChallenge));
    }

    #[test]
    fn a_wildcard_is_proved_by_dns_alone() {
        let wildcard = asked("apps.example", true, &[DNS, HTTP, ALPN]);
        assert_eq!(kind(&wildcard, &config(), 0), Err(Fault::NoChallenge));
        let hooked = AcmeConfig { dns_hook: Some("/bin/hook".into()), ..config() };
        assert_eq!(kind(&wildcard, &hooked, 3), Ok(DNS));
    }

    #[test]
    fn what_was_not_ordered_is_not_proved() {
        for (name, is_wildcard) in [("evil.example", false), ("apps.example", false), ("shop.example", true)]
        {
            assert_eq!(
                kind(&asked(name, is_wildcard, &[HTTP]), &config(), 0),
                Err(Fault::Nonsense),
                "{name}"
            );
        }
        for token in ["", "../../etc/passwd", "a b", "a/b", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            let mut strange = asked("shop.example", false, &[]);
            strange.offered = vec![(HTTP, token.to_owned())];
            assert_eq!(kind(&strange, &config(), 0), Err(Fault::Nonsense), "{token}");
        }
    }

    #[test]
    fn what_a_hook_prints_is_told_as_one_line() {
        assert_eq!(told("Done", " \n"), "Done");
        assert_eq!(told("Done", "a\nb"), "Done: a b");
    }
}
