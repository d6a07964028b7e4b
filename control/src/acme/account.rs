//! The account at an authority: made once, its key sealed, used by every control node.

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::lease::Lease;
use mezusphere_store::primary::secret::{self, SecretState};
use mezusphere_store::{StoreError, WriteError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer;
use super::engine::{Engine, Stopped, Trouble, fence};
use super::failure::{Failure, Fault};
use super::order::insist;
use super::wire::Watched;

/// An account as kept; a secret.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The library's own form: id, key, directory.
    credentials: AccountCredentials,
    /// The address the authority was told.
    contact: Option<String>,
}

/// Name of the secret that holds the account at an authority.
fn secret_name(directory: &str) -> String {
    format!("acme/account/{directory}")
}

impl Engine {
    /// The account at the authority, made if there is none.
    pub(super) async fn account(&self, lease: &Lease, wire: &Watched) -> Result<Account, Trouble> {
        let _one_at_a_time = self.account.lock().await;
        let name = secret_name(self.directory());
        let kept = self.shared.primary.read(async |tx| secret::current(tx, &name).await).await?;
        let Some(kept) = kept else { return self.make_account(lease, wire).await };
        let kept: Kept = serde_json::from_slice(&kept.value)
            .map_err(|_| StoreError::Damaged("the account at the authority cannot be read".to_owned()))?;
        let told = kept.contact;
        let account = Account::builder_with_http(wire.boxed()).from_credentials(kept.credentials).await;
        let account = account.map_err(|why| answer::failure(&why, wire.seen()))?;
        if told != self.config.contact {
            self.tell_contact(lease, wire, &account).await?;
        }
        Ok(account)
    }

    async fn make_account(&self, lease: &Lease, wire: &Watched) -> Result<Account, Trouble> {
        let config = &self.config;
        let contact = contact(config.contact.as_deref());
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: config.terms_agreed,
            only_return_existing: false,
        };
        let elsewhere = config
            .external_account
            .as_ref()
            .map(|account| ExternalAccountKey::new(account.kid.clone(), account.key.expose()));
        let made = insist!(Account::builder_with_http(wire.boxed()).create(
            &wanted,
            self.directory().to_owned(),
            elsewhere.as_ref()
        ));
        let (account, credentials) = made.map_err(|why| of_account(answer::failure(&why, wire.seen())))?;
        // A node that is cut off here leaves an account behind that nobody uses; the next one makes another.
        let id = account.id().to_owned();
        let kept = Kept { credentials, contact: config.contact.clone() };
        self.keep_account(lease, &kept, "acme.account", &id).await?;
        tracing::info!(account = id, "An account at the certificate authority was made");
        Ok(account)
    }

    async fn tell_contact(&self, lease: &Lease, wire: &Watched, account: &Account) -> Result<(), Trouble> {
        let contact = contact(self.config.contact.as_deref());
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let told = insist!(account.update_contacts(&contact));
        told.map_err(|why| of_account(answer::failure(&why, wire.seen())))?;
        let name = secret_name(self.directory());
        let kept = self.shared.primary.read(async |tx| secret::current(tx, &name).await).await?;
        if let Some(kept) = kept.and_then(|row| serde_json::from_slice::<Kept>(&row.value).ok()) {
            let kept = Kept { contact: self.config.contact.clone(), ..kept };
            self.keep_account(lease, &kept, "acme.account_contact", account.id()).await?;
        }
        Ok(())
    }

    async fn keep_account(
        &self,
        lease: &Lease,
        kept: &Kept,
        action: &'static str,
        id: &str,
    ) -> Result<(), Trouble> {
        let text = serde_json::to_vec(kept)
            .map_err(|_| StoreError::Damaged("the account at the authority cannot be written".to_owned()))?;
        let text = Zeroizing::new(text);
        let (shared, directory) = (&self.shared, self.directory());
        let written = shared.primary.write(async |tx| {
            fence(tx, lease).await?;
            forget(tx, directory).await?;
            secret::add(tx, &secret_name(directory), SecretState::Current, &text).await?;
            tx.audit(AuditEntry {
                organization: shared.installation.organization,
                project: None,
                actor: shared.config.node.id.to_string(),
                action: action.to_owned(),
                target: id.to_owned(),
                address: None,
                detail: serde_json::json!({ "directory": directory }),
            });
            Ok::<_, Stopped>(())
        });
        Ok(written.await?)
    }
}

/// Forgets the account at an authority; the next order makes another.
pub(super) async fn forget(tx: &mut Tx, directory: &str) -> Result<(), WriteError> {
    let name = secret_name(directory);
    for row in secret::list(tx, &name).await? {
        secret::delete(tx, &name, row.version).await?;
    }
    Ok(())
}

fn contact(email: Option<&str>) -> Vec<String> {
    email.map(|email| format!("mailto:{email}")).into_iter().collect()
}

/// What the authority says of a new account, it says of the account.
fn of_account(failure: Failure) -> Failure {
    match failure.fault {
        Fault::Validation | Fault::Refused => Failure { fault: Fault::Account, ..failure },
        _ => failure,
    }
}
