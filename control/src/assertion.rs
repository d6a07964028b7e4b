//! Assertions: the signed identity of a caller for one environment, made only for who holds the caller's own
//! credential, so that an edge can replay what it saw and mint nothing.

use mezusphere_identity::service_account::{self as keys, KeyRefusal};
use mezusphere_identity::sign_in::is_good;
use mezusphere_model::Timestamp;
use mezusphere_model::document::{PrincipalDoc, Status};
use mezusphere_model::id::EnvironmentId;
use mezusphere_model::identity::{Assurance, Identity, Method, Subject};
use mezusphere_model::link::{FoundSession, IssuedAssertion};
use mezusphere_model::session::SessionDoc;
use mezusphere_model::token::{ApiKeyToken, Token};
use mezusphere_store::StoreError;
use mezusphere_store::primary::{ReadTx, environment, principal, project, session, sign_in, user};
use tunnel_proto::assertion::{self, Audience, Claims, MintError};

use crate::Shared;
use crate::config::ASSERTION_TTL;
use crate::use_case::api_key::REQUEST;

/// Why no assertion is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssertionRefused {
    /// There is no such session, or it is over.
    #[error("the session has ended")]
    NoSession,
    /// The user or account may not act.
    #[error("the account is not active")]
    Inactive,
    /// The environment is not of the credential's project.
    #[error("the credential is not for this environment")]
    Elsewhere,
    /// The key is not good.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// The key may do other things.
    #[error("this API key may not call routes; it lacks the scope {REQUEST}")]
    Scope,
    /// It would be too large.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The database does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a session may still be used: it, its sign-in, its user.
///
/// Idleness is judged by the edge, which saw the last request: what is known here lags behind by the reports'
/// interval, so only a sign-in's own idle limit counts.
pub(crate) async fn live_session(tx: &mut ReadTx, token: &Token) -> Result<Option<FoundSession>, StoreError> {
    let now = tx.now();
    let Some(row) = session::find(tx, &token.hash()).await? else { return Ok(None) };
    let doc = row.doc;
    if row.ended_at.is_some() || now >= doc.expires_at {
        return Ok(None);
    }
    let Some(project) = project::get(tx, doc.project).await? else { return Ok(None) };
    let Some(sign_in) = sign_in::get(tx, project.directory, doc.sign_in).await? else { return Ok(None) };
    let Some(user) = user::get(tx, project.directory, doc.user).await? else { return Ok(None) };
    if !is_good(&sign_in, &user, now) || doc.issued_at < user.sessions_valid_from {
        return Ok(None);
    }
    let principal = principal::load(tx, doc.project, Subject::User(doc.user)).await?;
    Ok(principal.map(|principal| FoundSession { session: doc, principal }))
}

impl Shared {
    /// An assertion for the user of a session.
    pub(crate) async fn assert_session(
        &self,
        token: &Token,
        environment: EnvironmentId,
    ) -> Result<IssuedAssertion, AssertionRefused> {
        let (found, now) = self
            .primary
            .read(async |tx| {
                let found = live_session(tx, token).await?.ok_or(AssertionRefused::NoSession)?;
                if environment::get(tx, found.session.project, environment).await?.is_none() {
                    return Err(AssertionRefused::Elsewhere);
                }
                Ok((found, tx.now()))
            })
            .await?;
        if found.principal.status != Status::Active {
            return Err(AssertionRefused::Inactive);
        }
        self.mint(&of_user(&found.session, &found.principal), &found.principal, environment, now)
    }

    /// An assertion for the service account of an API key.
    pub(crate) async fn assert_key(
        &self,
        token: &ApiKeyToken,
        environment: EnvironmentId,
    ) -> Result<IssuedAssertion, AssertionRefused> {
        let (key, principal, now) = self
            .primary
            .read(async |tx| {
                let key = keys::verify(tx, token).await??.key;
                if environment::get(tx, key.project, environment).await?.is_none() {
                    return Err(AssertionRefused::Elsewhere);
                }
                if !key.scopes.iter().any(|scope| scope.as_str() == REQUEST) {
                    return Err(AssertionRefused::Scope);
                }
                let subject = Subject::ServiceAccount(key.account);
                let principal = principal::load(tx, key.project, subject).await?;
                Ok((key, principal.ok_or(AssertionRefused::Inactive)?, tx.now()))
            })
            .await?;
        if principal.status != Status::Active {
            return Err(AssertionRefused::Inactive);
        }
        let identity = Identity {
            subject: principal.subject,
            session: None,
            email: String::new(),
            name: principal.name.clone(),
            roles: principal.roles.clone(),
            permissions: key.scopes,
            methods: vec![Method::ApiKey],
            assurance: Assurance::Aal1,
            // A key is proved anew with each request.
            authenticated_at: now,
            claims: principal.claims.clone(),
        };
        self.mint(&identity, &principal, environment, now)
    }

    /// Who signs assertions: their `iss`.
    pub(crate) fn issuer(&self) -> String {
        format!("spiffe://{}", self.installation.trust_domain)
    }

    fn mint(
        &self,
        identity: &Identity,
        principal: &PrincipalDoc,
        environment: EnvironmentId,
        now: Timestamp,
    ) -> Result<IssuedAssertion, AssertionRefused> {
        let audience = Audience { project: principal.project, environment };
        let claims = Claims::with_life(identity, &self.issuer(), audience, now, ASSERTION_TTL);
        let jws = assertion::sign(&self.keys().assertion, &claims)?;
        Ok(IssuedAssertion { jws, expires_at: claims.expires_at(), principal_version: principal.version })
    }
}

/// A signed-in user's identity in the session's project.
fn of_user(session: &SessionDoc, principal: &PrincipalDoc) -> Identity {
    Identity {
        subject: principal.subject,
        session: Some(session.id),
        email: principal.email.clone(),
        name: principal.name.clone(),
        roles: principal.roles.clone(),
        permissions: principal.permissions.clone(),
        methods: session.methods.clone(),
        assurance: session.assurance,
        authenticated_at: session.authenticated_at,
        claims: principal.claims.clone(),
    }
}
