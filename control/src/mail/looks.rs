//! How the mails of a directory look and from whom they come, as its settings say.

use mezusphere_model::id::DirectoryId;
use mezusphere_store::StoreError;
use mezusphere_store::primary::directory::{self, DirectoryRow};
use mezusphere_store::primary::{ReadTx, project};

use crate::page::text;

/// The looks of a directory's mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    /// What it is called.
    pub(super) whose: String,
    /// `#rrggbb`.
    pub(super) colour: Option<String>,
    /// Where its people find help.
    pub(super) support: Option<String>,
    /// Name beside the sender's address; `None`: what it is called.
    pub(super) from_name: Option<String>,
    /// Where answers go.
    pub(super) reply_to: Option<String>,
}

impl Looks {
    /// Of the installation itself.
    fn plain() -> Self {
        Self {
            whose: text::ENGLISH.product.to_owned(),
            colour: None,
            support: None,
            from_name: None,
            reply_to: None,
        }
    }

    /// Of the directory with this id. `home` is where operators live, who know the product by its own name.
    pub(crate) async fn load(
        tx: &mut ReadTx,
        id: DirectoryId,
        home: DirectoryId,
    ) -> Result<Self, StoreError> {
        let Some(row) = directory::by_id(tx, id).await? else { return Ok(Self::plain()) };
        let called = match row.project {
            Some(project) => project::get(tx, project).await?.map(|project| project.name),
            None if id == home => Some(text::ENGLISH.product.to_owned()),
            None => None,
        };
        Ok(Self::of(row, called))
    }

    fn of(row: DirectoryRow, called: Option<String>) -> Self {
        let (brand, mail) = (row.settings.brand, row.settings.mail);
        Self {
            whose: brand.name.or(called).unwrap_or(row.name),
            colour: brand.colour,
            support: brand.support,
            from_name: mail.from_name,
            reply_to: mail.reply_to,
        }
    }
}
