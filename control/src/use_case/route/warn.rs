//! What looks wrong about a route though it is allowed: sentences for whoever made it.
//!
//! Pure: knows a route and those beside it, no store.

use std::collections::BTreeSet;

use mezusphere_model::identity::Assurance;
use mezusphere_model::route::{AuthMode, Cidr, PathMatch};
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
        warnings.extend(self.access_warnings());
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

    /// Sentences about who may use it.
    fn access_warnings(&self) -> impl Iterator<Item = String> {
        let (every_v4, every_v6) = Cidr::cover(&self.networks);
        let everybody = match (every_v4, every_v6) {
            (true, true) => Some("every address"),
            (true, false) => Some("every IPv4 address"),
            (false, true) => Some("every IPv6 address"),
            (false, false) => None,
        };
        let has_demands = !self.require.is_empty() || !self.step_up.is_empty() || !self.networks.is_empty();
        let dry = (!self.enforce).then(|| match (self.auth, has_demands) {
            (_, false) => "a dry run of nothing: the route demands nothing beyond sign-in".to_owned(),
            (AuthMode::Required, true) => {
                "dry run: whoever is signed in may use this route; what its demands would refuse stands in the access log as \
                 would_deny. Enforce them with --enforce true"
                    .to_owned()
            }
            (AuthMode::Public | AuthMode::Optional, true) => {
                "dry run: everybody may use this route; what its networks would refuse stands in the access log as would_deny. \
                 Enforce them with --enforce true"
                    .to_owned()
            }
        });
        let strength = self.step_up.acr.filter(|acr| *acr > Assurance::Aal1).map(|acr| {
            format!(
                "no second factor can be set up yet, so nobody signs in as strongly as {}: this route lets nobody in",
                acr.as_str()
            )
        });
        let told = (self.auth == AuthMode::Public && !self.identity.is_empty()).then(|| {
            "auth public tells the upstream of nobody: profiles and claims need auth optional or required"
                .to_owned()
        });
        let network = everybody.map(|everybody| {
            format!("the networks hold {everybody}: they keep nobody of those out. Leave them out, or name smaller ones")
        });
        [network, strength.filter(|_| self.enforce), dry, told].into_iter().flatten()
    }

    /// Whether `other` has another policy and a path that differs only in case, or in what else some servers ignore.
    fn is_told_from_by_spelling_alone(&self, other: &Self) -> bool {
        let policy = |draft: &Self| (draft.auth, draft.step_up, draft.enforce);
        (policy(self) != policy(other) || self.require != other.require || self.networks != other.networks)
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
    use super::super::check::tests::{name, request};
    use super::*;
    use crate::api::types::{AddRoute, Change, IdentityChanges, RequireChanges, StepUpChanges};

    #[test]
    fn an_unknown_role_and_a_hidden_route_are_warned_of() {
        let any_role = Some(vec![name("admin"), name("typo")]);
        let require = RequireChanges { any_role, ..RequireChanges::default() };
        let draft = Draft::new(&AddRoute { require, ..request("~/v[0-9]+") }).unwrap();
        let everything = Draft::new(&request("/*")).unwrap();
        let known = BTreeSet::from([name("admin")]);
        let warnings = draft.warnings(&known, &BTreeSet::new(), &[everything]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("no role typo"));
        assert!(warnings[1].contains("never reached"));
    }

    #[test]
    fn what_lets_more_in_than_it_seems_or_nobody_is_warned_of() {
        let warned = |asked: AddRoute| {
            Draft::new(&asked).unwrap().warnings(&BTreeSet::new(), &BTreeSet::new(), &[]).join("\n")
        };
        let networks = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let strong = StepUpChanges { acr: Change::Set(Assurance::Aal2), ..StepUpChanges::default() };
        let claims = IdentityChanges { claims: Some(vec!["plan".to_owned()]), ..IdentityChanges::default() };
        let office = networks(&["192.0.2.0/24"]);
        for (asked, said) in [
            (AddRoute { networks: office.clone(), ..request("/*") }, ""),
            (AddRoute { networks: networks(&["0.0.0.0/0"]), ..request("/*") }, "every IPv4 address"),
            (
                AddRoute { networks: networks(&["::/0", "0.0.0.0/1", "128.0.0.0/1"]), ..request("/*") },
                "every address",
            ),
            (AddRoute { step_up: strong, ..request("/*") }, "this route lets nobody in"),
            (AddRoute { enforce: Some(false), ..request("/*") }, "a dry run of nothing"),
            (
                AddRoute { enforce: Some(false), networks: office.clone(), ..request("/*") },
                "whoever is signed in",
            ),
            (
                AddRoute { enforce: Some(false), networks: office, auth: AuthMode::Public, ..request("/*") },
                "everybody may use this route",
            ),
            (
                AddRoute { auth: AuthMode::Public, identity: claims.clone(), ..request("/*") },
                "tells the upstream of nobody",
            ),
            (AddRoute { identity: claims, ..request("/*") }, ""),
        ] {
            let warnings = warned(asked.clone());
            assert_eq!(said.is_empty(), warnings.is_empty(), "{asked:?}: {warnings}");
            assert!(warnings.contains(said), "{asked:?}: {warnings}");
        }
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
