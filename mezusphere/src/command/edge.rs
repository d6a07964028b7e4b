//! `mezusphere edge`: the edges of a cluster, and letting new ones in.

use clap::Subcommand;
use mezusphere_control::api::types::InviteEdge;
use serde_json::Value;

use super::{Context, OutArg, seconds, segment};
use crate::failure::{Failure, Kind};
use crate::output::Secret;

/// Edges: where clients and warpgates arrive.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let a new edge in; prints its join token once
    Invite {
        /// What the edge will be called, such as eu-1.
        name: String,
        /// Where it will stand, for people.
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        /// How long the token is good, up to 24h.
        #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = seconds)]
        expires_in: u64,
        #[command(flatten)]
        out: OutArg,
    },
    /// List edges
    List,
    /// Shut an edge out for good: its tunnels end within seconds, and its certificate is worth nothing
    Evict {
        /// The edge's name or id.
        edge: String,
    },
    /// List invitations that are open
    Invitations,
    /// Take an invitation back
    Uninvite {
        /// The invitation's id, or the name of the edge it is for.
        invitation: String,
    },
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Invite { name, region, expires_in, out } => {
                let file = out.create()?;
                let body = InviteEdge { name, region, expires_in_s: Some(expires_in) };
                let made = context.client.post("/edge-invitations", &body).await?;
                let text = |name: &str| made.get(name).and_then(Value::as_str).map(str::to_owned);
                let token = text("token")
                    .ok_or_else(|| Failure::new(Kind::Unexpected, "the server sent no token"))?;
                let until = text("expires_at").unwrap_or_default();
                // Not completed with this machine's data directory: it is for another one.
                let then = if out.path().is_some() {
                    "  next: bring the file to the new machine and there start it with\n        \
                     mezusphere serve --role edge --join-file FILE --advertise HOST:443"
                } else {
                    "  next: on the new machine start it with\n        \
                     mezusphere serve --role edge --join TOKEN --advertise HOST:443"
                };
                let said = format!("Invited {}: the join token is good once, until {until}.", body.name);
                let secret = Secret { field: "token", text: &token, said, then: then.to_owned() };
                context.output.secret(&made, &secret, file)?;
            }
            Self::List => {
                let items = context.client.list("/edges").await?;
                let columns = [
                    ("NAME", "/name"),
                    ("EDGE", "/id"),
                    ("REGION", "/region"),
                    ("ADDRESS", "/address"),
                    ("STATE", "/state"),
                    ("LAST SEEN", "/seen_at"),
                    ("BEHIND", "/behind"),
                    ("VERSION", "/version"),
                ];
                context.output.list(&items, &columns, "No edges. Invite one: mezusphere edge invite NAME")?;
            }
            Self::Evict { edge } => {
                let path = format!("/edges/{}", segment(&edge));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!(
                    "Evicted {edge}. To let the machine in again, empty its data directory and invite it anew."
                ))?;
            }
            Self::Invitations => {
                let items = context.client.list("/edge-invitations").await?;
                let columns = [
                    ("INVITATION", "/id"),
                    ("NAME", "/name"),
                    ("REGION", "/region"),
                    ("STATE", "/state"),
                    ("CREATED", "/created_at"),
                    ("GOOD UNTIL", "/expires_at"),
                ];
                context.output.list(&items, &columns, "No invitation is open.")?;
            }
            Self::Uninvite { invitation } => {
                let path = format!("/edge-invitations/{}", segment(&invitation));
                context.output.json(&context.client.delete(&path).await?)?;
                context.output.say(&format!("Took {invitation} back."))?;
            }
        }
        Ok(())
    }
}
