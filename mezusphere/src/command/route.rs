//! `mezusphere route`: what is published, and for whom.

use clap::{Args, Subcommand, ValueEnum};
use mezusphere_control::api::types::{AddRoute, Timeouts, UpdateRoute};
use mezusphere_model::route::{AuthMode, Requirement};
use mezusphere_model::slug::{Name, Slug};
use serde_json::Value;

use super::{Context, EnvironmentArg, segment};
use crate::failure::{Failure, Kind};

/// Routes of an environment.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish a path
    Add {
        /// The project.
        project: String,
        /// '/a' one path, '/a/*' it and all below, '~REGEX' a regular expression.
        path: String,
        /// Who may use it; must be said, nothing is open by omission.
        #[arg(long, value_enum)]
        auth: Auth,
        #[command(flatten)]
        environment: EnvironmentArg,
        #[command(flatten)]
        settings: Settings,
    },
    /// List an environment's routes
    List {
        /// The project.
        project: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Change a route; what is left out stays
    Update {
        /// The project.
        project: String,
        /// The route's id.
        route: String,
        /// A new path.
        #[arg(long)]
        path: Option<String>,
        /// Who may use it.
        #[arg(long, value_enum)]
        auth: Option<Auth>,
        #[command(flatten)]
        environment: EnvironmentArg,
        #[command(flatten)]
        settings: Settings,
    },
    /// Take a route away
    Remove {
        /// The project.
        project: String,
        /// The route's id.
        route: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
}

/// Who may use a route at all.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Auth {
    /// Everybody; no identity is forwarded
    Public,
    /// Everybody; the identity is forwarded when there is one
    Optional,
    /// Only who is signed in
    Required,
}

impl From<Auth> for AuthMode {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::Public => Self::Public,
            Auth::Optional => Self::Optional,
            Auth::Required => Self::Required,
        }
    }
}

/// What a route asks for, and where it leads.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// One of these roles is needed; may be repeated.
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<Name>,
    /// This role is needed, with every other given so; may be repeated.
    #[arg(long = "all-role", value_name = "NAME")]
    all_roles: Vec<Name>,
    /// One of these permissions is needed; may be repeated.
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<Name>,
    /// This permission is needed, with every other given so; may be repeated.
    #[arg(long = "all-permission", value_name = "NAME")]
    all_permissions: Vec<Name>,
    /// Only this method; may be repeated.
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// The warpgate's name for where it leads.
    #[arg(long, value_name = "NAME")]
    upstream: Option<Slug>,
    /// Longest wait for the upstream's response head, in milliseconds.
    #[arg(long, value_name = "MS")]
    head_timeout: Option<u32>,
}

impl Settings {
    fn requirement(&self) -> Requirement {
        Requirement {
            any_role: self.roles.clone(),
            all_roles: self.all_roles.clone(),
            any_permission: self.permissions.clone(),
            all_permissions: self.all_permissions.clone(),
        }
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts { head_ms: self.head_timeout, ..Timeouts::default() }
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add { project, path, auth, environment, settings } => {
                let body = AddRoute {
                    path,
                    methods: settings.methods.clone(),
                    auth: auth.into(),
                    require: settings.requirement(),
                    upstream: settings.upstream.clone(),
                    timeouts: settings.timeouts(),
                    position: None,
                };
                let made =
                    context.client.post(&format!("{}/routes", environment.path(&project)), &body).await?;
                published(context, &made, "Published")
            }
            Self::List { project, environment } => {
                let items = context.client.list(&format!("{}/routes", environment.path(&project))).await?;
                let columns = [
                    ("PATH", "/path"),
                    ("METHODS", "/methods"),
                    ("AUTH", "/auth"),
                    ("NEEDS", "/needs"),
                    ("UPSTREAM", "/upstream"),
                    ("ID", "/id"),
                ];
                let empty =
                    format!("No routes yet. Add one: mezusphere route add {project} '/*' --auth required");
                Ok(context.output.list_as(&items, with_needs, &columns, &empty)?)
            }
            Self::Update { project, route, path, auth, environment, settings } => {
                let require = settings.requirement();
                let body = UpdateRoute {
                    path,
                    methods: (!settings.methods.is_empty()).then(|| settings.methods.clone()),
                    auth: auth.map(AuthMode::from),
                    require: (!require.is_empty()).then_some(require),
                    upstream: settings.upstream.clone(),
                    timeouts: settings.head_timeout.map(|_| settings.timeouts()),
                };
                if body == UpdateRoute::default() {
                    return Err(
                        Failure::new(Kind::Usage, "nothing to change").next("mezusphere route update --help")
                    );
                }
                let path = format!("{}/routes/{}", environment.path(&project), segment(&route));
                published(context, &context.client.patch(&path, &body).await?, "Changed")
            }
            Self::Remove { project, route, environment } => {
                let path = format!("{}/routes/{}", environment.path(&project), segment(&route));
                let removed = context.client.delete(&path).await?;
                context.output.json(&removed)?;
                let text = |pointer: &str| removed.pointer(pointer).and_then(Value::as_str);
                let (path, now) = (text("/route/path").unwrap_or(&route), text("/now").unwrap_or_default());
                Ok(context.output.say(format!("Removed {path}. {now}").trim_end())?)
            }
        }
    }
}

/// A route with its requirement in words, as a warpgate writes it: `role=a|b · permission=x+y`.
fn with_needs(route: &Value) -> Value {
    let mut row = route.clone();
    let require = row.get("require").cloned().unwrap_or_default();
    let needs = serde_json::from_value::<Requirement>(require).map(|require| require.to_string());
    if let (Some(fields), Ok(needs)) = (row.as_object_mut(), needs) {
        fields.insert("needs".to_owned(), needs.into());
    }
    row
}

fn published(context: &Context, answer: &Value, verb: &str) -> Result<(), Failure> {
    context.output.json(answer)?;
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    context.output.say(&format!(
        "{verb} {} ({}, {})",
        text("/url"),
        text("/route/path"),
        text("/route/auth")
    ))?;
    let warnings = answer.get("warnings").and_then(Value::as_array).cloned().unwrap_or_default();
    for warning in warnings.iter().filter_map(Value::as_str) {
        context.output.say(&format!("  note: {warning}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_routes_tells_every_requirement() {
        let rows = [
            (json!({}), ""),
            (json!({ "any_role": ["a", "b"] }), "role=a|b"),
            (
                json!({ "all_roles": ["admin", "customer"], "any_permission": ["x:y"], "all_permissions": ["p", "q"] }),
                "role=admin+customer · permission=x:y · permission=p+q",
            ),
        ];
        for (require, needs) in rows {
            assert_eq!(with_needs(&json!({ "require": require }))["needs"], needs);
        }
    }
}
