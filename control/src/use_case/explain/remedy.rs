//! What a caller lacks for a route, all of it, and what would change that: words for an operator.
//!
//! The policy stops at the first thing that is missing; here each demand is looked at by itself.

use std::time::Duration;

use mezusphere_model::identity::Subject;
use mezusphere_model::policy::Circumstances;
use mezusphere_model::route::{AuthMode, RouteDoc};
use mezusphere_model::slug::Name;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::role::RoleRow;

use super::{Sender, Verdict};

/// What the words name.
pub(super) struct Context<'a> {
    pub(super) project: &'a ProjectRow,
    pub(super) environment: &'a EnvironmentRow,
    /// The project's roles.
    pub(super) roles: &'a [RoleRow],
}

/// What is lacking, and what would change it.
pub(super) fn of(
    route: &RouteDoc,
    sender: Option<&Sender>,
    circumstances: Circumstances,
    context: &Context<'_>,
) -> (Vec<String>, Vec<String>) {
    let mut found = Found::default();
    networks(route, circumstances, context, &mut found);
    let asks = route.auth_in_force() == AuthMode::Required;
    match sender {
        None if asks => found.add(
            "somebody signed in",
            vec![
                "sign in, or name who asks: --user EMAIL".to_owned(),
                format!("to let everybody in: {}", set(route, context, "--auth public")),
            ],
        ),
        Some(sender) if !sender.is_active() => {
            let who = who(sender);
            let change = format!("mezusphere user activate {} {who}", context.project.slug);
            found.add(&format!("an active account: {who} is {}", sender.status()), vec![change]);
        }
        Some(sender) if route.auth_in_force() != AuthMode::Public => {
            step_up(route, sender, circumstances, &mut found);
            names(route, sender, context, &mut found);
            claims(route, sender, context, &mut found);
        }
        None | Some(_) => {}
    }
    (found.lacks, found.changes)
}

/// What would help where no route takes a request.
pub(super) fn without_route(
    verdict: &Verdict,
    project: &ProjectRow,
    environment: &EnvironmentRow,
    path: &str,
) -> Vec<String> {
    let on = flag(environment);
    match verdict.code.as_str() {
        "edge.no_route" => vec![
            format!("see what there is: mezusphere route list {}{on}", project.slug),
            format!("or publish it: mezusphere route add {} '{path}' --auth required{on}", project.slug),
        ],
        "edge.ambiguous_path" => vec![
            "ask for the path as the application writes it: same case, no encoded slashes, dots or empty segments"
                .to_owned(),
            format!(
                "if the application tells the spellings apart, give this one a route: mezusphere route add {} '{path}' --auth required{on}",
                project.slug
            ),
        ],
        "edge.bad_path" => vec!["correct the address".to_owned()],
        "edge.route_too_new" => vec!["update this installation".to_owned()],
        _ => Vec::new(),
    }
}

/// What opens a route again.
pub(super) fn end_of_maintenance(
    route: &RouteDoc,
    project: &ProjectRow,
    environment: &EnvironmentRow,
) -> String {
    format!("mezusphere route set {} {} --no-maintenance{}", project.slug, route.id, flag(environment))
}

#[derive(Default)]
struct Found {
    lacks: Vec<String>,
    changes: Vec<String>,
}

impl Found {
    fn add(&mut self, lacks: &str, changes: Vec<String>) {
        self.lacks.push(lacks.to_owned());
        for change in changes {
            if !self.changes.contains(&change) {
                self.changes.push(change);
            }
        }
    }
}

fn networks(route: &RouteDoc, circumstances: Circumstances, context: &Context<'_>, found: &mut Found) {
    let client = circumstances.client;
    if route.networks.is_empty() || route.networks.iter().any(|network| network.contains(client)) {
        return;
    }
    let all: Vec<String> = route.networks.iter().map(ToString::to_string).collect();
    let more: Vec<String> = all
        .iter()
        .cloned()
        .chain([client.to_string()])
        .map(|network| format!("--network {network}"))
        .collect();
    found.add(
        &format!("a client in {}: {client} is in none of them", all.join(" or ")),
        vec![format!("to let that address in: {}", set(route, context, &more.join(" ")))],
    );
}

fn step_up(route: &RouteDoc, sender: &Sender, circumstances: Circumstances, found: &mut Found) {
    let identity = &sender.identity;
    if let Some(needs) = route.step_up.acr.filter(|needs| identity.assurance < *needs) {
        let lacks =
            format!("a sign-in of strength {}: theirs is {}", needs.as_str(), identity.assurance.as_str());
        found.add(&lacks, vec!["they sign in with a second factor".to_owned()]);
    }
    let is_person = matches!(identity.subject, Subject::User(_));
    if let Some(most) = route.step_up.max_auth_age_s.filter(|_| is_person) {
        let age = circumstances.now.since(identity.authenticated_at);
        if age > Duration::from_secs(most.into()) {
            found.add(
                &format!("a sign-in within {most} s: theirs is {} s old", age.as_secs()),
                vec!["they sign in again; a browser is sent there by itself".to_owned()],
            );
        }
    }
}

fn names(route: &RouteDoc, sender: &Sender, context: &Context<'_>, found: &mut Found) {
    let require = &route.require;
    let (roles, permissions) = (&sender.identity.roles, &sender.identity.permissions);
    if !require.any_role.is_empty() && !require.any_role.iter().any(|role| roles.contains(role)) {
        let changes = require.any_role.iter().map(|role| give(sender, role, context)).collect();
        found.add(&one_of("role", &require.any_role), changes);
    }
    for role in require.all_roles.iter().filter(|role| !roles.contains(role)) {
        found.add(&format!("the role {role}"), vec![give(sender, role, context)]);
    }
    let with = |permission: &Name| {
        let has = |role: &&RoleRow| role.permissions.contains(permission);
        let mut ways: Vec<String> =
            context.roles.iter().filter(has).map(|role| give(sender, &role.name, context)).collect();
        if ways.is_empty() {
            ways.push(format!(
                "no role gives {permission} yet: mezusphere role set {} ROLE --permission {permission}",
                context.project.slug
            ));
        }
        ways
    };
    let any = &require.any_permission;
    if !any.is_empty() && !any.iter().any(|permission| permissions.contains(permission)) {
        let changes = any.iter().flat_map(with).collect();
        found.add(&one_of("permission", any), changes);
    }
    for permission in require.all_permissions.iter().filter(|name| !permissions.contains(name)) {
        found.add(&format!("the permission {permission}"), with(permission));
    }
}

fn claims(route: &RouteDoc, sender: &Sender, context: &Context<'_>, found: &mut Found) {
    for rule in &route.require.claims {
        let held = sender.identity.claims.get(&rule.name);
        if held.is_some_and(|value| rule.is_met_by(value)) {
            continue;
        }
        let wanted: Vec<String> = rule.any_of.iter().map(ToString::to_string).collect();
        let has = held.map_or_else(|| "they have none".to_owned(), |value| format!("theirs is {value}"));
        found.add(
            &format!("the claim {} with {}: {has}", rule.name, wanted.join(" or ")),
            vec![format!(
                "set the claim {} of {} in project {}",
                rule.name,
                who(sender),
                context.project.slug
            )],
        );
    }
}

/// The command that gives a role and takes none away.
fn give(sender: &Sender, role: &Name, context: &Context<'_>) -> String {
    let held = sender.identity.roles.iter().chain([role]);
    let flags: Vec<String> = held.map(|role| format!("--role {role}")).collect();
    let kind = match sender.identity.subject {
        Subject::User(_) => "user",
        Subject::ServiceAccount(_) => "service-account",
    };
    format!("mezusphere {kind} set-roles {} {} {}", context.project.slug, who(sender), flags.join(" "))
}

fn who(sender: &Sender) -> String {
    let identity = &sender.identity;
    if identity.email.is_empty() { identity.subject.to_string() } else { identity.email.clone() }
}

fn set(route: &RouteDoc, context: &Context<'_>, flags: &str) -> String {
    format!("mezusphere route set {} {} {flags}{}", context.project.slug, route.id, flag(context.environment))
}

fn flag(environment: &EnvironmentRow) -> String {
    if environment.slug.as_str() == mezusphere_model::platform::PRODUCTION {
        String::new()
    } else {
        format!(" --environment {}", environment.slug)
    }
}

fn one_of(kind: &str, names: &[Name]) -> String {
    let all: Vec<&str> = names.iter().map(Name::as_str).collect();
    if let [only] = all.as_slice() {
        format!("the {kind} {only}")
    } else {
        format!("one of the {kind}s {}", all.join(", "))
    }
}
