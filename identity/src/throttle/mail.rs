//! Mails that strangers may have sent: to an address, from a network, altogether.
//!
//! Addresses without an account are counted like those with one (R13). Each kind of mail has its own allowance per
//! address, so that whoever has sign-up mails sent to somebody does not use up their recoveries; and every mail that goes
//! out carries a link that works, so an owner whose allowance a stranger used has what they want in their inbox.

use std::time::Duration;

use mezusphere_model::Timestamp;

use super::gcra::{Allowance, Table};
use super::{AccountKey, Network, Scope, TABLE_LEN_MAX, Throttled, room};

/// Mails of one kind to one address.
const ADDRESS: Allowance = Allowance { burst: 3, period: Duration::from_mins(10) };
/// Mails asked for from one network.
const NETWORK: Allowance = Allowance { burst: 20, period: Duration::from_mins(1) };
/// Mails strangers ask for altogether: what a mail provider lets a small sender send.
const EVERYBODY: Allowance = Allowance { burst: 100, period: Duration::from_secs(1) };

/// What a mail is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mailing {
    /// To sign up.
    SignUp,
    /// To recover.
    Recovery,
    /// To verify one's address.
    Verify,
    /// To confirm a new address.
    ChangeEmail,
}

pub(super) struct MailTables {
    addresses: Table<(AccountKey, Mailing)>,
    networks: Table<Network>,
    everybody: Table<()>,
}

impl MailTables {
    pub(super) fn new() -> Self {
        Self {
            addresses: Table::new(ADDRESS, TABLE_LEN_MAX),
            networks: Table::new(NETWORK, TABLE_LEN_MAX),
            everybody: Table::new(EVERYBODY, 1),
        }
    }

    /// Charges one mail if all allowances have room; a known place is not held up by what strangers use up.
    pub(super) fn draw(
        &mut self,
        account: AccountKey,
        kind: Mailing,
        network: Network,
        known: bool,
        now: Timestamp,
    ) -> Result<(), Throttled> {
        room(self.addresses.wait(&(account, kind), now), Scope::Account)?;
        if !known {
            room(self.networks.wait(&network, now), Scope::Network)?;
            room(self.everybody.wait(&(), now), Scope::Everybody)?;
            self.networks.draw(network, now);
            self.everybody.draw((), now);
        }
        self.addresses.draw((account, kind), now);
        Ok(())
    }
}
