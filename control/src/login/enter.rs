//! Beginning a sign-in in a browser, and where it goes from there: the same for every flow that ends in one.

use mezusphere_identity::desk::Visit;
use mezusphere_identity::flow::{Authenticated, Refusal};
use mezusphere_identity::message::Message;
use mezusphere_identity::sign_in as lifecycle;
use mezusphere_identity::sign_in::{Limits, Welcome};
use mezusphere_model::id::DirectoryId;
use mezusphere_model::token::Token;
use mezusphere_store::WriteError;
use mezusphere_store::primary::Tx;
use mezusphere_store::primary::audit::AuditEntry;
use mezusphere_store::primary::directory::DirectoryRow;
use mezusphere_store::primary::sign_in::SignInRow;

use super::Login;
use super::destination::Further;
use super::target::Target;

impl Login {
    /// Begins a sign-in, writes it down, and queues what its owner is told by mail.
    pub(super) async fn welcome(
        &self,
        tx: &mut Tx,
        directory: &DirectoryRow,
        who: &Authenticated,
        visit: &Visit,
        held: &[Token],
    ) -> Result<Welcome, Refusal> {
        let limits = Limits::of(self.limits, &directory.settings);
        let welcome = lifecycle::welcome(tx, directory.id, who, limits, &visit.place(), held).await?;
        self.audit(
            tx,
            directory,
            visit,
            welcome.row.user.to_string(),
            "sign_in.begin",
            welcome.row.id.to_string(),
            serde_json::json!({ "directory": directory.id, "methods": welcome.row.methods }),
        );
        self.mail(tx, &welcome.messages).await?;
        Ok(welcome)
    }

    /// Queues what a flow wants said.
    pub(super) async fn mail(&self, tx: &mut Tx, messages: &[Message]) -> Result<(), WriteError> {
        for message in messages {
            self.mail.enqueue(tx, message).await?;
        }
        Ok(())
    }

    /// Writes down what somebody did to their own account.
    #[expect(
        clippy::too_many_arguments,
        clippy::unused_self,
        reason = "the fields of an audit entry, each of its own meaning; said of this host as all of a change is"
    )]
    pub(super) fn audit(
        &self,
        tx: &mut Tx,
        directory: &DirectoryRow,
        visit: &Visit,
        actor: String,
        action: &str,
        target: String,
        detail: serde_json::Value,
    ) {
        tx.audit(AuditEntry {
            organization: directory.organization,
            project: directory.project,
            actor,
            action: action.to_owned(),
            target,
            address: Some(visit.address.to_string()),
            detail,
        });
    }

    /// Where a signed-in browser goes: to the application with a hand-off code, or to its account.
    pub(super) async fn location(
        &self,
        tx: &mut Tx,
        target: &Target,
        row: &SignInRow,
    ) -> Result<String, WriteError> {
        let Some((app, resolved)) = &target.app else { return Ok(self.account_path(target.directory())) };
        let code = lifecycle::hand_off(tx, &self.desk.entropy, row, &resolved.destination).await?;
        Ok(format!("{}/.mezu/callback?code={}", self.platform.origin(&app.host), code.reveal()))
    }

    /// Where somebody goes who came by a mailed link: the application asks again, and gets a hand-off at once.
    pub(super) fn further(&self, further: Option<&Further>, directory: DirectoryId) -> String {
        further.map_or_else(
            || self.account_path(directory),
            |Further { host, return_to, .. }| format!("{}{return_to}", self.platform.origin(host)),
        )
    }

    /// The account page of somebody of this directory.
    pub(super) fn account_path(&self, directory: DirectoryId) -> String {
        if directory == self.home.1 { "/account".to_owned() } else { format!("/account/{directory}") }
    }
}
