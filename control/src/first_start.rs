//! The first start of an installation: its keys, its own organization, and the first operator.
//!
//! All of it is one transaction, so a crash half-way leaves nothing and the next start begins again; a start
//! after a finished one changes nothing here.

use std::collections::BTreeMap;

use mezusphere_identity::account::{self, AccountError, Email, NewUser};
use mezusphere_identity::flow::first_sign_in;
use mezusphere_model::host::HostError;
use mezusphere_model::id::{ControlId, DirectoryId, EdgeId, OrganizationId, ProjectId, UserId};
use mezusphere_model::platform::PlatformHost;
use mezusphere_model::slug::{Name, Slug};
use mezusphere_model::token::CookieKey;
use mezusphere_model::{Entropy, Host};
use mezusphere_pki::signing::SigningKey;
use mezusphere_pki::{Issuing, Root, TrustDomain};
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::operator::{self, GrantRow, Scope};
use mezusphere_store::primary::organization::{self, OrganizationRow};
use mezusphere_store::primary::project::{self, ProjectRow};
use mezusphere_store::primary::secret::{self, SecretState};
use mezusphere_store::primary::{Primary, ReadTx, StoreError, Tx, password, setting};
use zeroize::Zeroizing;

use crate::ca::keep_issuing;
use crate::ca::offline::{self, FirstRoot};
use crate::ca::state::CaState;
use crate::installation::{Installation, OPERATORS, OWN_ORGANIZATION, SETTING, secret_name};
use crate::{ControlConfig, OpenError};

/// Name of the setting that holds the base domain the installation was last started with.
const BASE_SETTING: &str = "platform/base";

/// What somebody must have been granted to count as the installation's owner.
pub(crate) const OWNER: &str = "owner";

/// The installation in this database, made now if there is none.
pub(crate) async fn ensure(
    primary: &Primary,
    config: &ControlConfig,
    entropy: &Entropy,
) -> Result<Installation, OpenError> {
    if let Some(installation) = primary.read(async |tx| load(tx).await).await? {
        if config.trust_domain.as_ref().is_some_and(|asked| *asked != installation.trust_domain) {
            tracing::warn!(
                trust_domain = installation.trust_domain,
                "The installation keeps the trust domain it was made with"
            );
        }
        return Ok(installation);
    }
    let First { domain, email, root } = First::of(config)?;
    if let Some(csr_pem) = offline::unsigned(primary, root.as_ref()).await? {
        return Err(OpenError::Unsigned { csr_pem });
    }
    primary
        .write(async |tx| {
            // Another control node may have been first.
            if let Some(installation) = load(tx).await? {
                return Ok(installation);
            }
            create(tx, &domain, email, entropy, root.as_ref()).await
        })
        .await
}

/// What a new installation is made with.
pub(crate) struct First {
    /// What it is called.
    domain: TrustDomain,
    /// Its first operator.
    email: Email,
    /// The root it begins under; `None`: one is made.
    root: Option<FirstRoot>,
}

impl First {
    /// As it is configured.
    pub(crate) fn of(config: &ControlConfig) -> Result<Self, OpenError> {
        let root = config.root_elsewhere.as_ref().map(FirstRoot::read).transpose()?;
        let domain = match (&config.trust_domain, &root) {
            (None, Some(root)) => root.domain.clone(),
            (asked, _) => {
                let domain = asked.clone().unwrap_or_else(|| config.platform.base.to_string());
                TrustDomain::parse(&domain).map_err(|why| OpenError::TrustDomain(domain.clone(), why))?
            }
        };
        let email =
            config.operator_email.clone().unwrap_or_else(|| format!("operator@{}", config.platform.base));
        let email = Email::parse(&email).map_err(|_| OpenError::OperatorEmail(email.clone()))?;
        Ok(Self { domain, email, root })
    }
}

/// Remembers the base domain, and says so when it is another one than before: what was handed out names the old one.
pub(crate) async fn note_base(tx: &mut Tx, base: &Host) -> Result<(), StoreError> {
    let known: Option<Host> = setting::get(tx, BASE_SETTING).await?;
    if known.as_ref() == Some(base) {
        return Ok(());
    }
    if let Some(before) = known {
        tracing::warn!(
            %before,
            now = %base,
            "The base domain has changed: connection keys made before name the old one. Keep connect. below it leading \
             here, or make new keys"
        );
    }
    setting::put(tx, BASE_SETTING, base).await
}

async fn load(tx: &mut ReadTx) -> Result<Option<Installation>, OpenError> {
    Ok(setting::get(tx, SETTING).await?)
}

async fn create(
    tx: &mut Tx,
    domain: &TrustDomain,
    email: Email,
    entropy: &Entropy,
    root: Option<&FirstRoot>,
) -> Result<Installation, OpenError> {
    let installation = Installation {
        organization: OrganizationId::random(entropy),
        project: ProjectId::random(entropy),
        directory: DirectoryId::random(entropy),
        trust_domain: domain.to_string(),
        control: ControlId::random(entropy),
        edge: EdgeId::random(entropy),
    };
    keys(tx, domain, entropy, root).await?;
    let now = tx.now();
    organization::insert(
        tx,
        &OrganizationRow {
            id: installation.organization,
            slug: own_slug(OWN_ORGANIZATION),
            name: "Default organization".to_owned(),
            created_at: now,
        },
    )
    .await?;
    directory::insert(
        tx,
        &DirectoryRow {
            id: installation.directory,
            organization: installation.organization,
            project: Some(installation.project),
            name: OPERATORS.to_owned(),
            settings: directory::Settings::default(),
            created_at: now,
        },
    )
    .await?;
    project::insert(
        tx,
        &ProjectRow {
            id: installation.project,
            organization: installation.organization,
            directory: installation.directory,
            slug: own_slug(OPERATORS),
            name: "Operators".to_owned(),
            created_at: now,
        },
    )
    .await?;
    let user = NewUser {
        directory: installation.directory,
        email,
        name: "Operator".to_owned(),
        display_name: String::new(),
        claims: BTreeMap::new(),
        password: None,
    };
    let user = account::create(tx, entropy, now, user).await.map_err(|why| match why {
        AccountError::Field(_) => OpenError::OperatorEmail(String::new()),
        AccountError::Write(why) => OpenError::Write(why),
    })?;
    let grant = GrantRow { user: user.id, scope: Scope::Installation, role: owner_role(), granted_at: now };
    operator::grant(tx, &grant).await?;
    setting::put(tx, SETTING, &installation).await?;
    tx.audit(AuditEntry {
        organization: installation.organization,
        project: None,
        actor: "local".to_owned(),
        action: "installation.create".to_owned(),
        target: domain.uri(),
        address: None,
        detail: serde_json::json!({ "operator": user.id }),
    });
    Ok(installation)
}

async fn keys(
    tx: &mut Tx,
    domain: &TrustDomain,
    entropy: &Entropy,
    root: Option<&FirstRoot>,
) -> Result<(), OpenError> {
    let now = tx.now();
    let (root_pem, issuing) = if let Some(root) = root {
        (root.pem.clone(), root.issuing(tx, entropy).await?)
    } else {
        let root = Root::create(domain, now, entropy)?;
        secret::add(tx, secret_name::ROOT, SecretState::Current, root.secret_pem().as_bytes()).await?;
        (root.certificate_pem(), Issuing::create(&root, now, entropy)?)
    };
    let assertion = SigningKey::generate().map_err(|why| OpenError::KeyMaking(why.to_string()))?;
    let cookie = serde_json::to_vec(&CookieKey::random(entropy));
    let cookie = Zeroizing::new(cookie.map_err(|why| OpenError::KeyMaking(why.to_string()))?);
    let pepper = Zeroizing::new(entropy.bytes::<32>());
    let form = Zeroizing::new(entropy.bytes::<32>());
    for (name, value) in [
        (secret_name::ASSERTION, assertion.pkcs8_der()),
        (secret_name::COOKIE, &cookie),
        (secret_name::PEPPER, pepper.as_slice()),
        (secret_name::FORM, form.as_slice()),
    ] {
        secret::add(tx, name, SecretState::Current, value).await?;
    }
    let issuing = keep_issuing(tx, &issuing, SecretState::Current).await?;
    // Beside the sealed key, so that the key may be taken offline: it is needed only to make an issuing CA.
    CaState::first(root_pem, issuing).write(tx).await?;
    Ok(())
}

fn own_slug(text: &str) -> Slug {
    Slug::parse(text).unwrap_or_else(|_| unreachable!("{text} is a slug"))
}

/// The role of the grant that the first operator gets.
pub(crate) fn owner_role() -> Name {
    Name::parse(OWNER).unwrap_or_else(|_| unreachable!("{OWNER} is a name"))
}

/// A one-time sign-in link for the first operator, as long as no owner has ever set a password; older links of
/// theirs stop working.
pub(crate) async fn sign_in_link(
    primary: &Primary,
    config: &ControlConfig,
    installation: &Installation,
    entropy: &Entropy,
) -> Result<Option<String>, OpenError> {
    primary
        .write(async |tx| {
            let mut first: Option<UserId> = None;
            for grant in operator::list(tx, Scope::Installation).await? {
                if password::get(tx, installation.directory, grant.user).await?.is_some() {
                    return Ok(None);
                }
                first = first.or(Some(grant.user));
            }
            let Some(user) = first else { return Ok(None) };
            let now = tx.now();
            let token = first_sign_in::create_link(tx, entropy, installation.directory, user, now).await?;
            Ok(Some(link_url(config, &first_sign_in::path(&token))?))
        })
        .await
}

/// `path` on the login host.
pub(crate) fn link_url(config: &ControlConfig, path: &str) -> Result<String, HostError> {
    let login = config.platform.host(PlatformHost::Login)?;
    Ok(format!("{}{path}", config.platform.origin(&login)))
}
