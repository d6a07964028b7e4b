//! What looks wrong about a route though it is allowed: sentences for whoever made it.
//!
//! Pure: knows a route and those beside it, no store.

use std::collections::BTreeSet;

use mezusphere_model::route::PathMatch;
use mezusphere_model::rules::EdgeAnswer;
use mezusphere_model::slug::Name;

use super::check::Draft;
use super::rule;

impl Draft {
    /// Sentences about what is allowed but probably not meant.
    pub(crate) fn warnings(
        &self,
        roles: &BTreeSet<Name>,
        permissions: &BTreeSet<Name>,
        beside: &[Draft],
    ) -> Vec<String> {
        let mut warnings = rule::warnings(&self.rules);
        if self.rules.cors.is_some()
            && !self.methods.is_empty()
            && !self.methods.iter().any(|m| m == "OPTIONS")
        {
            warnings.push(
                "browsers ask with OPTIONS before they send what is out of the ordinary (a preflight), and this route does \
                 not take it: add --method OPTIONS"
                    .to_owned(),
            );
        }
        if let Some(EdgeAnswer::Redirect(redirect)) = &self.rules.answer
            && leads_back(&redirect.to, &self.path)
        {
            warnings.push(
                "the redirect leads back to this route: browsers will give up after some rounds".to_owned(),
            );
        }
        let require = &self.require;
        for role in require.any_role.iter().chain(&require.all_roles) {
            if !roles.contains(role) {
                warnings.push(format!("no role {role} exists in this project yet, so nobody holds it"));
            }
        }
        for permission in require.any_permission.iter().chain(&require.all_permissions) {
            if !permissions.contains(permission) {
                warnings.push(format!("no role of this project gives {permission} yet"));
            }
        }
        if let PathMatch::Regex(_) = self.path
            && beside.iter().any(Self::takes_everything)
        {
            warnings.push(
                "a prefix wins over a regular expression, and this environment has /*: this route is never reached"
                    .to_owned(),
            );
        }
        if self.takes_everything() && beside.iter().any(|other| matches!(other.path, PathMatch::Regex(_))) {
            warnings.push(
                "a prefix wins over a regular expression: the regular expressions of this environment are \
                 no longer reached"
                    .to_owned(),
            );
        }
        for other in beside.iter().filter(|other| self.is_told_from_by_spelling_alone(other)) {
            warnings.push(format!(
                "many servers take {} and {} for one path; here each decides its own spelling, so be sure that the \
                 upstream tells them apart",
                self.path, other.path
            ));
        }
        warnings
    }

    /// Whether `other` has another policy and a path that differs only in case, or in what else some servers ignore.
    fn is_told_from_by_spelling_alone(&self, other: &Self) -> bool {
        (self.auth, &self.require) != (other.auth, &other.require)
            && self.path != other.path
            && self.path.reads_like(&other.path)
    }

    fn takes_everything(&self) -> bool {
        self.methods.is_empty()
            && matches!(&self.path, PathMatch::Prefix(prefix) if prefix.is_empty() || prefix == "/")
    }
}

/// Whether a redirect to `to`, here or at the same host, has a path that `path` matches for certain.
fn leads_back(to: &str, path: &PathMatch) -> bool {
    let here = to.strip_prefix("https://{host}").unwrap_or(to);
    let target = here.split(['?', '#']).next().unwrap_or_default().replace("{query}", "");
    // Any path that the route takes will do.
    let sample = match path {
        PathMatch::Exact(exact) => exact.clone(),
        PathMatch::Prefix(prefix) => format!("{}/x", prefix.trim_end_matches('/')),
        PathMatch::Regex(_) => return target == "{path}" || path.matches(&target),
    };
    path.matches(&target.replace("{path}", &sample))
}

#[cfg(test)]
mod tests {
    use mezusphere_model::route::{AuthMode, Requirement};

    use super::super::check::tests::{name, request};
    use super::*;
    use crate::api::types::AddRoute;

    #[test]
    fn an_unknown_role_and_a_hidden_route_are_warned_of() {
        let require = Requirement { any_role: vec![name("admin"), name("typo")], ..Requirement::default() };
        let draft = Draft::new(&AddRoute { require, ..request("~/v[0-9]+") }).unwrap();
        let everything = Draft::new(&request("/*")).unwrap();
        let known = BTreeSet::from([name("admin")]);
        let warnings = draft.warnings(&known, &BTreeSet::new(), &[everything]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("no role typo"));
        assert!(warnings[1].contains("never reached"));
    }
    #[test]
    fn r02_routes_that_some_servers_cannot_tell_apart_are_warned_of_if_their_policies_differ() {
        let draft = |path: &str, auth| Draft::new(&AddRoute { auth, ..request(path) }).unwrap();
        let beside = [draft("/Account/*", AuthMode::Required), draft("/other/*", AuthMode::Required)];
        let warned = |path: &str, auth| {
            draft(path, auth).warnings(&BTreeSet::new(), &BTreeSet::new(), &beside).join("\n")
        };
        assert!(warned("/account/*", AuthMode::Public).contains("/account/* and /Account/*"));
        for (path, auth) in [
            ("/account/*", AuthMode::Required),
            ("/Account/*", AuthMode::Public), // the same path, not another spelling
            ("/account", AuthMode::Public),
            ("/accounts/*", AuthMode::Public),
        ] {
            assert_eq!(warned(path, auth), "", "{path}");
        }
    }
}
