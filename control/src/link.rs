//! What edges ask of control, answered by direct calls in one process and by the node port for edges of their own.
//!
//! A link belongs to one edge, whom its holder has authenticated; an edge that was evicted is refused everything, even on
//! a connection that is still up.
//!
//! An error of the database is [`LinkError::Away`]: the edge may ask again. A [`LinkError::Refused`] carries a stable
//! word and a sentence for the log, never for a stranger.

use std::net::SocketAddr;
use std::sync::Arc;

use mezusphere_model::Timestamp;
use mezusphere_model::document::Partition;
use mezusphere_model::id::{EdgeId, EnvironmentId, SessionId};
use mezusphere_model::link::{
    ACTIVITY_BATCH_MAX, AboutEdge, Activity, Answer, ControlLink, Credential, DENIAL_BATCH_MAX, DenialCount,
    FoundSession, IssuedAssertion, LinkError, RedeemCode, Redeemed, TunnelReport,
};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::{Token, TokenHash};
use mezusphere_pki::{Role, SpiffeName};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::hand_off::{self, HandOffRow, Redemption};
use mezusphere_store::primary::node::NodeId;
use mezusphere_store::primary::warpgate::{self, TunnelRow};
use mezusphere_store::primary::{ReadTx, Tx, principal, project, session, sign_in, user};
use mezusphere_store::{StoreError, WriteError};

use mezusphere_identity::session::end_at_app;
use mezusphere_identity::sign_in::is_good;
use mezusphere_model::identity::Subject;

use crate::Shared;
use crate::assertion::{AssertionRefused, live_session};

/// Longest reason code of a denial, in characters; ours are half as long.
const REASON_LEN_MAX: usize = 64;

/// The link of one edge.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    /// Who asks.
    pub(crate) edge: EdgeId,
}

pub(crate) fn away(why: &StoreError) -> LinkError {
    tracing::warn!(error = %why, "A question of an edge could not be answered");
    LinkError::Away
}

pub(crate) fn refused(word: &str, sentence: impl std::fmt::Display) -> LinkError {
    LinkError::Refused(format!("{word}: {sentence}"))
}

impl From<AssertionRefused> for LinkError {
    fn from(why: AssertionRefused) -> Self {
        match why {
            AssertionRefused::Store(why) => away(&why),
            AssertionRefused::NoSession => refused("session.ended", why),
            AssertionRefused::Inactive => refused("account.inactive", why),
            AssertionRefused::Elsewhere => refused("environment.unknown", why),
            AssertionRefused::Key(_) => refused("key.refused", why),
            AssertionRefused::Scope => refused("key.scope", why),
            AssertionRefused::Mint(_) => refused("assertion.too_large", why),
        }
    }
}

/// Why a code became no session. Which one it was is for the log; the client starts over in any case.
#[derive(Debug, thiserror::Error)]
enum RedeemError {
    #[error("there is no such code")]
    Unknown,
    #[error("the code was used before")]
    Used,
    #[error("the code is too old")]
    Expired,
    #[error("the code was made for another host or another browser")]
    Mismatch,
    #[error("the sign-in has ended")]
    SignInEnded,
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for RedeemError {
    fn from(why: StoreError) -> Self {
        Self::Write(why.into())
    }
}

impl From<RedeemError> for LinkError {
    fn from(why: RedeemError) -> Self {
        match &why {
            RedeemError::Write(WriteError::Store(why)) => away(why),
            RedeemError::Write(_) | RedeemError::SignInEnded => refused("sign_in.ended", why),
            RedeemError::Unknown => refused("code.unknown", why),
            RedeemError::Used => refused("code.used", why),
            RedeemError::Expired => refused("code.expired", why),
            RedeemError::Mismatch => refused("code.mismatch", why),
        }
    }
}

impl Link {
    /// Whether this edge may still ask, as far as this node knows now.
    fn admit(&self) -> Result<(), LinkError> {
        if self.shared.node.trusted().denies(&self.shared.node_name(NodeId::Edge(self.edge))) {
            return Err(refused("edge.evicted", format_args!("the edge {} was evicted", self.edge)));
        }
        Ok(())
    }

    async fn redeem(&self, ask: RedeemCode) -> Result<Redeemed, LinkError> {
        let shared = &self.shared;
        let Some(code) = Token::parse(&ask.code) else { return Err(RedeemError::Unknown.into()) };
        let token = Token::random(&shared.entropy);
        let work = shared.primary.write_published(async |tx| {
            // A code that fails is spent too, so its outcome is committed whatever it is.
            let row = match hand_off::redeem(tx, &code.hash(), &ask.host, &ask.state_hash).await? {
                Redemption::Redeemed(row) => row,
                Redemption::Unknown => return Ok(Err(RedeemError::Unknown)),
                Redemption::Used(_) => return Ok(Err(RedeemError::Used)),
                Redemption::Expired => return Ok(Err(RedeemError::Expired)),
                Redemption::Mismatch => return Ok(Err(RedeemError::Mismatch)),
            };
            let Some(doc) = self.session_of(tx, &row, &token).await? else {
                return Ok(Err(RedeemError::SignInEnded));
            };
            if let Some(old) = &ask.replaces {
                end_replaced(tx, old, &doc).await?;
            }
            session::insert(tx, &doc).await?;
            let subject = Subject::User(doc.user);
            let principal = principal::load(tx, doc.project, subject).await?;
            let principal = principal.ok_or(WriteError::NotFound { what: "user" })?;
            Ok::<_, RedeemError>(Ok((FoundSession { session: doc, principal }, row.return_to)))
        });
        let (outcome, published) = work.await?;
        let (found, return_to) = outcome?;
        let born_at = published.revision(Partition::Project(found.session.project)).unwrap_or_default();
        Ok(Redeemed { token: token.reveal(), found, born_at, return_to })
    }

    /// The session that a redeemed code makes, if its sign-in is still good.
    async fn session_of(
        &self,
        tx: &mut Tx,
        row: &HandOffRow,
        token: &Token,
    ) -> Result<Option<SessionDoc>, StoreError> {
        let now = tx.now();
        let Some(project) = project::get(tx, row.project).await? else { return Ok(None) };
        let Some(sign_in) = sign_in::get(tx, project.directory, row.sign_in).await? else { return Ok(None) };
        let Some(user) = user::get(tx, project.directory, sign_in.user).await? else { return Ok(None) };
        if !is_good(&sign_in, &user, now) {
            return Ok(None);
        }
        Ok(Some(SessionDoc {
            id: SessionId::random(&self.shared.entropy),
            token_hash: token.hash(),
            sign_in: sign_in.id,
            user: sign_in.user,
            project: row.project,
            host: row.host.clone(),
            methods: sign_in.methods,
            assurance: sign_in.assurance,
            authenticated_at: sign_in.authenticated_at,
            issued_at: now,
            // The limits its directory gave the sign-in it belongs to, which it never outlives.
            expires_at: sign_in.expires_at,
            idle_s_max: sign_in.idle_s_max,
            seen_at: now,
        }))
    }

    async fn find_session(&self, token: Token) -> Result<Option<FoundSession>, LinkError> {
        self.shared.primary.read(async |tx| live_session(tx, &token).await).await.map_err(|why| away(&why))
    }

    async fn sign_out(&self, token: Token) -> Result<(), LinkError> {
        let work = self.shared.primary.write(async |tx| {
            let Some(row) = session::find(tx, &token.hash()).await? else { return Ok(()) };
            let Some(project) = project::get(tx, row.doc.project).await? else { return Ok(()) };
            if end_at_app(tx, project.directory, row.doc.sign_in).await? {
                tx.audit(AuditEntry {
                    organization: project.organization,
                    project: Some(project.id),
                    actor: row.doc.user.to_string(),
                    action: "sign_in.end".to_owned(),
                    target: row.doc.sign_in.to_string(),
                    address: None,
                    detail: serde_json::json!({ "host": row.doc.host }),
                });
            }
            Ok::<_, WriteError>(())
        });
        match work.await {
            // A sign-in that is gone is as ended as it can be.
            Ok(()) | Err(WriteError::NotFound { .. }) => Ok(()),
            Err(WriteError::Store(why)) => Err(away(&why)),
            Err(why @ WriteError::Conflict { .. }) => Err(refused("sign_out.failed", why)),
        }
    }

    async fn denials(&self, batch: Vec<DenialCount>) -> Result<(), LinkError> {
        if batch.len() > DENIAL_BATCH_MAX {
            return Err(refused("batch.too_large", format_args!("at most {DENIAL_BATCH_MAX} denials")));
        }
        let work = self.shared.primary.write(async |tx| {
            for denial in &batch {
                // What an edge says of a project that is gone has no log to go to.
                let Some(row) = project::get(tx, denial.project).await? else { continue };
                tx.audit(AuditEntry {
                    organization: row.organization,
                    project: Some(row.id),
                    // An edge's word names users and accounts, nobody else: it cannot put an operator's name here.
                    actor: denial
                        .subject
                        .as_deref()
                        .and_then(|text| text.parse::<Subject>().ok())
                        .map_or_else(|| "anonymous".to_owned(), |subject| subject.to_string()),
                    action: "request.denied".to_owned(),
                    target: denial.route.to_string(),
                    address: None,
                    detail: serde_json::json!({
                        "reason": reason(&denial.reason),
                        "count": denial.count,
                        "last": denial.last.to_string(),
                        "last_request": denial.last_request,
                    }),
                });
            }
            Ok::<_, StoreError>(())
        });
        work.await.map_err(|why| away(&why))
    }

    async fn activity(&self, batch: Vec<Activity>) -> Result<(), LinkError> {
        if batch.len() > ACTIVITY_BATCH_MAX {
            return Err(refused("batch.too_large", format_args!("at most {ACTIVITY_BATCH_MAX} sessions")));
        }
        let now = self.shared.clock.now();
        let mut batch = batch;
        // A clock that runs ahead must not keep sessions alive.
        for seen in &mut batch {
            seen.seen_at = seen.seen_at.min(now);
        }
        let work = self.shared.primary.write(async |tx| session::seen(tx, &batch).await);
        work.await.map_err(|why| away(&why))
    }

    async fn tunnel(&self, report: TunnelReport) -> Result<(), LinkError> {
        let row = self.row(report)?;
        match self.shared.primary.write(async |tx| warpgate::report_tunnel(tx, &row).await).await {
            Ok(()) => Ok(()),
            Err(WriteError::Store(why)) => Err(away(&why)),
            Err(why) => Err(refused("tunnel.unknown", why)),
        }
    }

    async fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Result<(), LinkError> {
        // One that cannot be is left out: the others must not stay listed as gone for it.
        let rows: Vec<TunnelRow> = held.into_iter().filter_map(|report| self.row(report).ok()).collect();
        let edge = self.edge;
        let written =
            self.shared.primary.write(async |tx| warpgate::hold_tunnels(tx, edge, &rows, at).await).await;
        written.map_err(|why| away(&why))
    }

    fn row(&self, report: TunnelReport) -> Result<TunnelRow, LinkError> {
        let name: SpiffeName = report.warpgate.parse().map_err(|why| refused("warpgate.name", why))?;
        let Role::Warpgate { project, environment, id } = name.role else {
            return Err(refused("warpgate.name", "the name is not a warpgate's"));
        };
        if environment != report.environment {
            return Err(refused("warpgate.name", "the warpgate belongs to another environment"));
        }
        Ok(TunnelRow {
            warpgate: id,
            // Whose it is, is known from who reports it.
            edge: self.edge,
            project,
            environment,
            remote: report.remote.to_string(),
            agent: report.agent,
            upstreams: report.upstreams,
            connected: report.connected,
            since: report.at,
        })
    }
}

/// A reason code as an edge wrote it, fit for the log.
fn reason(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(REASON_LEN_MAX).collect()
}

/// Ends the session that the client held on this host before, if it was one of this project and host (R11).
async fn end_replaced(tx: &mut Tx, old: &TokenHash, new: &SessionDoc) -> Result<(), WriteError> {
    let reader: &mut ReadTx = tx;
    if let Some(row) = session::find(reader, old).await?
        && row.doc.project == new.project
        && row.doc.host == new.host
    {
        session::end(tx, new.project, row.doc.id).await?;
    }
    Ok(())
}

impl ControlLink for Link {
    fn certify(&self, csr_der: Vec<u8>) -> Answer<'_, Result<Vec<Vec<u8>>, LinkError>> {
        // Asks the database itself whether the edge was evicted.
        Box::pin(self.shared.certify_edge(self.edge, csr_der))
    }

    fn about(&self, about: AboutEdge) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(self.shared.about_edge(self.edge, about))
    }

    fn redeem(&self, code: RedeemCode) -> Answer<'_, Result<Redeemed, LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.redeem(code).await
        })
    }

    fn find_session(&self, token: Token) -> Answer<'_, Result<Option<FoundSession>, LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.find_session(token).await
        })
    }

    fn assertion(
        &self,
        credential: Credential,
        environment: EnvironmentId,
    ) -> Answer<'_, Result<IssuedAssertion, LinkError>> {
        Box::pin(async move {
            self.admit()?;
            let issued = match credential {
                Credential::Session(token) => self.shared.assert_session(&token, environment).await,
                Credential::ApiKey(key) => self.shared.assert_key(&key, environment).await,
            };
            Ok(issued?)
        })
    }

    fn sign_out(&self, token: Token) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.sign_out(token).await
        })
    }

    fn activity(&self, batch: Vec<Activity>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.activity(batch).await
        })
    }

    fn denials(&self, batch: Vec<DenialCount>) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.denials(batch).await
        })
    }

    fn tunnel(&self, report: TunnelReport) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.tunnel(report).await
        })
    }

    fn tunnels(&self, held: Vec<TunnelReport>, at: Timestamp) -> Answer<'_, Result<(), LinkError>> {
        Box::pin(async move {
            self.admit()?;
            self.tunnels(held, at).await
        })
    }

    fn connect(&self, message: Vec<u8>, from: SocketAddr) -> Answer<'_, Result<Vec<u8>, LinkError>> {
        Box::pin(async move {
            self.admit()?;
            let reply = self.shared.connect(&message, from).await;
            reply.to_json().map_err(|why| {
                tracing::error!(error = %why, "A reply to a warpgate cannot be written");
                LinkError::Away
            })
        })
    }
}
