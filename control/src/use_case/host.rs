//! Hosts an environment answers on: its endpoint, and the customer's own domains.

use mezusphere_model::Host as HostName;
use mezusphere_store::primary::host::{self, HostKind, HostRow};

use super::scope;
use crate::Shared;
use crate::api::types::{AddHost, Host, Page};
use crate::caller::{Caller, Permission};
use crate::certificate;
use crate::problem::{self, Refusal};

fn view(row: &HostRow) -> Host {
    Host {
        host: row.host.to_string(),
        endpoint: row.kind == HostKind::Endpoint,
        created_at: row.created_at.to_string(),
    }
}

/// An environment's hosts, the endpoint first. There are few, so they come in one page.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
) -> Result<Page<Host>, Refusal> {
    let grant = caller.allow(Permission::ProjectsRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let rows = host::list(tx, project.id, environment.id).await?;
            Ok(Page { items: rows.iter().map(view).collect(), next: None })
        })
        .await
}

/// Adds a custom domain.
pub(crate) async fn add(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    request: &AddHost,
) -> Result<Host, Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    let name = allowed(shared, &request.host)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let row = HostRow {
                host: name,
                project: project.id,
                environment: environment.id,
                kind: HostKind::Custom,
                created_at: tx.now(),
            };
            host::insert(tx, &row).await?;
            certificate::add_host(tx, shared, project.id, &row.host).await?;
            shared.publish_site(tx, project.id, environment.id).await?;
            let detail = serde_json::json!({ "environment": environment.slug });
            scope::audit(tx, &grant, &project, "host.add", &row.host, detail);
            Ok(view(&row))
        })
        .await
}

/// Reads a custom domain; names that belong to the platform are not for tenants.
fn allowed(shared: &Shared, text: &str) -> Result<HostName, Refusal> {
    let name =
        HostName::parse(text).map_err(|why| Refusal::new(&problem::HOST_INVALID, format!("host: {why}")))?;
    let platform = &shared.config.platform;
    let ours = |domain: &HostName| name == *domain || name.is_below(domain);
    if ours(&platform.base) || ours(&platform.apps) {
        let detail = format!("{name} lies in a domain of the platform");
        let next = "its endpoint is there already; give a domain of your own";
        return Err(Refusal::new(&problem::HOST_INVALID, detail).with_next(next));
    }
    if !name.as_str().contains('.') {
        let detail = format!("{name} is not a full host name");
        return Err(Refusal::new(&problem::HOST_INVALID, detail));
    }
    Ok(name)
}

/// Removes a custom domain.
pub(crate) async fn remove(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
) -> Result<(), Refusal> {
    let grant = caller.allow(Permission::EnvironmentsWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let rows = host::list(tx, project.id, environment.id).await?;
            let row = rows.iter().find(|row| row.host.as_str() == name);
            let row = row.ok_or_else(|| scope::not_found("host", name))?;
            if row.kind == HostKind::Endpoint {
                let detail = "an environment keeps its endpoint";
                return Err(
                    Refusal::new(&problem::IN_USE, detail).with_next("delete the environment instead")
                );
            }
            host::delete(tx, project.id, &row.host).await?;
            certificate::remove_host(tx, project.id, &row.host)?;
            shared.publish_site(tx, project.id, environment.id).await?;
            let detail = serde_json::json!({ "environment": environment.slug });
            scope::audit(tx, &grant, &project, "host.remove", &row.host, detail);
            Ok(())
        })
        .await
}
