//! Where a sign-in leads, and whose accounts it is for.

use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::SignedIn;
use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;
use mezusphere_store::StoreError;
use mezusphere_store::primary::ReadTx;

use super::Login;
use super::answer::Failure;
use super::destination::{AppAddress, Asked, BadReturn, Resolved};
use super::tenant::Tenant;
use super::wish::Wish;
use crate::page::{Chrome, LeadsTo};

/// Fields of a query; ours has at most six.
const QUERY_FIELDS_MAX: usize = 16;

/// Where a sign-in leads, and whose accounts it is for.
pub(super) struct Target {
    /// As it was asked for.
    pub(super) asked: Asked,
    /// What is published there; `None`: nothing is, the account itself is meant.
    pub(super) app: Option<(AppAddress, Resolved)>,
    pub(super) tenant: Tenant,
}

/// Reads the query of a page that leads somewhere.
pub(super) fn read(query: Option<&str>) -> Result<(Asked, Wish), Failure> {
    let fields: Vec<(String, String)> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .take(QUERY_FIELDS_MAX)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let read = || Ok::<_, BadReturn>((Asked::read(&fields)?, Wish::read(&fields)?));
    read().map_err(|_| Failure::bad_return())
}

impl Target {
    /// Whose accounts it is for.
    pub(super) const fn directory(&self) -> DirectoryId {
        self.tenant.row.id
    }

    /// The pages' looks.
    pub(super) fn chrome(&self) -> Chrome {
        self.tenant.chrome()
    }

    /// The application, as pages name it.
    pub(super) fn leads_to(&self) -> Option<LeadsTo> {
        self.app
            .as_ref()
            .map(|(app, resolved)| LeadsTo { name: resolved.name.clone(), host: app.host.to_string() })
    }

    /// The form token's way back to this target, with nothing that a query could not say.
    pub(super) fn sign_in(&self) -> String {
        self.asked.sign_in(Wish::default())
    }
}

impl Login {
    /// What the query asks for, as it is now.
    ///
    /// # Errors
    /// That nothing is published there, or there is no such directory.
    pub(super) async fn target(
        &self,
        tx: &mut ReadTx,
        asked: Asked,
    ) -> Result<Result<Target, Failure>, StoreError> {
        let (app, directory) = match &asked {
            Asked::Home => (None, self.home.1),
            Asked::Directory(directory) => (None, *directory),
            Asked::App(app) => {
                let Some(resolved) = app.resolve(tx).await? else { return Ok(Err(Failure::unknown_host())) };
                let directory = resolved.directory;
                (Some((app.clone(), resolved)), directory)
            }
        };
        let tenant = Tenant::held(tx, directory).await?;
        Ok(tenant.map(|tenant| Target { asked, app, tenant }))
    }

    /// Who of those this browser holds sign-ins of is of `directory`, with the token.
    pub(super) async fn current(
        &self,
        tx: &mut ReadTx,
        held: &[Token],
        directory: DirectoryId,
    ) -> Result<Option<(SignedIn, Token)>, StoreError> {
        for token in held {
            if let Some(found) = lifecycle::resolve(tx, token).await?
                && found.sign_in.directory == directory
            {
                return Ok(Some((found, token.clone())));
            }
        }
        Ok(None)
    }

    /// The origin of an application, which a form may lead to.
    pub(super) fn origin_of(&self, target: &Target) -> Option<String> {
        target.app.as_ref().map(|(app, _)| self.platform.origin(&app.host))
    }
}
