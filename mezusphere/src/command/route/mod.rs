//! `mezusphere route`: what is published, for whom, and what is done to its requests and responses.
//!
//! Flags are in the files beside this one, by what they are about; here are the verbs.

mod access;
mod limits;
mod rules;
mod show;
#[cfg(test)]
mod tests;
mod value;

use clap::{Args, Subcommand};
use mezusphere_control::api::types::{AddRoute, ExplainRequest, Timeouts, UpdateRoute};
use mezusphere_model::route::AuthMode;
use serde_json::Value;

use self::access::{AccessArgs, Auth, ClearAccess};
use self::limits::{ClearLimits, LimitArgs};
use self::rules::{ClearRules, RuleArgs};
use super::{Context, EnvironmentArg, segment};
use crate::failure::{Failure, Kind};

/// Shown below the long help of `add` and `set`.
const EXAMPLES: &str = "\
Examples:
  Publish all of an application for people who are signed in:
    mezusphere route add shop '/*' --auth required
  Serve /api from an upstream that knows nothing of the prefix:
    mezusphere route add shop '/api/*' --auth required --upstream api --strip-prefix /api
  Let a page of another site read it, with cookies:
    mezusphere route set shop '/api/*' --cors-origin https://app.example --cors-credentials true
  Not more than 600 requests a minute from one address, 50 at once:
    mezusphere route set shop '/api/*' --rate 600/min:50
  Only from the office, and only for who signed in within a quarter of an hour;
  first without refusing anybody:
    mezusphere route set shop '/admin/*' --network 192.0.2.0/24 --max-auth-age 15m \\
        --role admin --dry-run-policy
    mezusphere route set shop '/admin/*' --enforce true
  Close it for a while, and open it again:
    mezusphere route set shop '/api/*' --maintenance 'Back at nine.' --retry-after 30m
    mezusphere route set shop '/api/*' --no-maintenance

Rules act in one order, whatever order they are given in: docs/operations/routes.md.";

/// Routes of an environment.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish a path
    #[command(after_long_help = EXAMPLES)]
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
        settings: Box<Settings>,
    },
    /// List an environment's routes
    List {
        /// The project.
        project: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Show a route with all that it does
    Show {
        /// The project.
        project: String,
        /// The route's id, or its path if no other route has it.
        route: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Change a route; what is left out stays
    #[command(visible_alias = "update", after_long_help = EXAMPLES)]
    Set {
        /// The project.
        project: String,
        /// The route's id, or its path if no other route has it.
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
        settings: Box<Settings>,
        #[command(flatten)]
        clear: Box<Clear>,
    },
    /// Tell what would become of a request, step by step
    Explain {
        /// The project.
        project: String,
        /// Its path, with or without a query: '/api/orders?id=1'.
        path: String,
        /// Its method.
        #[arg(long, default_value = "GET")]
        method: String,
        /// Who sends it: the e-mail address of a user, signed in just now. Nobody if left out.
        #[arg(long, value_name = "EMAIL")]
        user: Option<String>,
        /// The client's address.
        #[arg(long, value_name = "IP")]
        from: Option<std::net::IpAddr>,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
    /// Take a route away
    Remove {
        /// The project.
        project: String,
        /// The route's id, or its path if no other route has it.
        route: String,
        #[command(flatten)]
        environment: EnvironmentArg,
    },
}

/// All that a route may be told.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// All that can be taken back.
#[derive(Debug, Args)]
#[command(next_help_heading = "Taking back")]
pub(crate) struct Clear {
    #[command(flatten)]
    access: ClearAccess,
    #[command(flatten)]
    rules: ClearRules,
    #[command(flatten)]
    limits: ClearLimits,
}

impl Settings {
    fn add(self, path: String, auth: Auth) -> Result<AddRoute, Failure> {
        Ok(AddRoute {
            path,
            methods: self.access.methods.clone(),
            auth: auth.into(),
            require: self.access.require(&ClearAccess::default()),
            step_up: self.access.step_up(&ClearAccess::default()),
            networks: self.access.networks(&ClearAccess::default()).unwrap_or_default(),
            enforce: self.access.enforce(),
            identity: self.access.identity(&ClearAccess::default()),
            upstream: self.access.upstream.clone(),
            timeouts: self.limits.timeouts(),
            rules: self.rules.changes(&ClearRules::default())?,
            limits: self.limits.changes(&ClearLimits::default()),
            affinity: self.limits.affinity,
            position: None,
        })
    }

    fn update(self, path: Option<String>, auth: Option<Auth>, clear: &Clear) -> Result<UpdateRoute, Failure> {
        let timeouts = self.limits.timeouts();
        Ok(UpdateRoute {
            path,
            methods: self.access.new_methods(&clear.access),
            auth: auth.map(AuthMode::from),
            require: self.access.require(&clear.access),
            step_up: self.access.step_up(&clear.access),
            networks: self.access.networks(&clear.access),
            enforce: self.access.enforce(),
            identity: self.access.identity(&clear.access),
            upstream: self.access.upstream.clone(),
            timeouts: (timeouts != Timeouts::default()).then_some(timeouts),
            rules: self.rules.changes(&clear.rules)?,
            limits: self.limits.changes(&clear.limits),
            affinity: self.limits.new_affinity(&clear.limits),
        })
    }
}

impl Command {
    /// Runs it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Add { project, path, auth, environment, settings } => {
                let body = settings.add(path, auth)?;
                let made =
                    context.client.post(&format!("{}/routes", environment.path(&project)), &body).await?;
                show::published(context, &made, "Published")
            }
            Self::List { project, environment } => {
                let items = context.client.list(&format!("{}/routes", environment.path(&project))).await?;
                show::list(context, &project, &items)
            }
            Self::Show { project, route, environment } => {
                let path = format!("{}/routes/{}", environment.path(&project), segment(&route));
                show::whole(context, &context.client.get(&path).await?)
            }
            Self::Set { project, route, path, auth, environment, settings, clear } => {
                let body = settings.update(path, auth, &clear)?;
                if body == UpdateRoute::default() {
                    return Err(Failure::new(Kind::Usage, "nothing to change was given")
                        .next("mezusphere route set --help shows what can be"));
                }
                let path = format!("{}/routes/{}", environment.path(&project), segment(&route));
                show::published(context, &context.client.patch(&path, &body).await?, "Changed")
            }
            Self::Explain { project, path, method, user, from, environment } => {
                let body = ExplainRequest { path, method: Some(method), user, from };
                let told =
                    context.client.post(&format!("{}/explain", environment.path(&project)), &body).await?;
                show::explained(context, &told)
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
