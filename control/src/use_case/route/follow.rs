//! Which routes requests follow that one route does not take: once it is removed, or because it takes some methods only.
//!
//! Pure: knows the routes of an environment with their places, no store. Follows the matching order of
//! `mezusphere_model::route`: the exact path, then the longest prefix, then regular expressions as they were written.

use std::collections::BTreeSet;

use mezusphere_model::route::{AuthMode, PathMatch, RouteDoc};

use crate::api::types::FollowingRoute;

/// Methods that are told one by one (RFC 9110 §9.3, RFC 5789); [`OTHERS`] stands for all the rest.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A method no route can list, so only one for all methods takes it.
const OTHERS: &str = "*";

/// What becomes of requests that some route does not take.
#[derive(Debug)]
pub(super) struct Following<'a> {
    routes: Vec<Taker<'a>>,
    /// Methods with requests that no route takes for certain.
    rest: BTreeSet<&'a str>,
}

#[derive(Debug)]
struct Taker<'a> {
    route: &'a RouteDoc,
    /// Methods it takes of those that came this far; `None`: each of them.
    methods: Option<Vec<&'a str>>,
    /// It may match some of the paths and not others.
    partly: bool,
}

/// What becomes of the requests of `gone`, which stood at `place`, among the routes that are left.
pub(super) fn after_removal<'a>(
    place: u32,
    gone: &'a RouteDoc,
    others: &[(u32, &'a RouteDoc)],
) -> Following<'a> {
    following(place, &gone.path, methods(gone, others, |method| gone.takes(method)), others)
}

/// Sentences about what `new` at `place` leaves open, and about what it opens.
pub(super) fn notes(place: u32, new: &RouteDoc, others: &[(u32, &RouteDoc)]) -> Vec<String> {
    let mut notes = Vec::new();
    if !new.methods.is_empty() {
        let left = following(place, &new.path, methods(new, others, |method| !new.takes(method)), others);
        let taken = if new.takes("HEAD") && !new.methods.iter().any(|method| method == "HEAD") {
            format!("{}, HEAD", new.methods.join(", "))
        } else {
            new.methods.join(", ")
        };
        // Where nothing takes them they get 404, as for every path nobody published.
        if !left.routes.is_empty() {
            notes.push(format!(
                "this route takes {taken} only; other requests for {} {}",
                new.path,
                left.words()
            ));
        }
    }
    if new.auth_in_force() != AuthMode::Required {
        let without = following(place, &new.path, methods(new, others, |method| new.takes(method)), others);
        let opened = without.routes.iter().filter(|taker| taker.route.auth_in_force() == AuthMode::Required);
        notes.extend(opened.map(|taker| {
            let inside = described(taker.route);
            format!("without this route {} would follow {inside}; with it nobody has to sign in", new.path)
        }));
    }
    notes
}

/// The methods anybody here tells apart, as far as `wanted`.
fn methods<'a>(
    one: &'a RouteDoc,
    others: &[(u32, &'a RouteDoc)],
    wanted: impl Fn(&str) -> bool,
) -> BTreeSet<&'a str> {
    let listed = others.iter().flat_map(|(_, route)| &route.methods).chain(&one.methods);
    let known = METHODS.into_iter().chain([OTHERS]).chain(listed.map(String::as_str));
    known.filter(|method| wanted(method)).collect()
}

fn following<'a>(
    place: u32,
    path: &PathMatch,
    mut rest: BTreeSet<&'a str>,
    others: &[(u32, &'a RouteDoc)],
) -> Following<'a> {
    let mut candidates: Vec<_> = others
        .iter()
        .filter_map(|(at, route)| {
            overlap((place, path), (*at, &route.path)).map(|how| (rank(route, *at), how, *route))
        })
        .collect();
    candidates.sort_by_key(|(rank, _, _)| *rank);
    let mut routes = Vec::new();
    for (_, how, route) in candidates {
        let taken: BTreeSet<&str> = rest.iter().copied().filter(|method| route.takes(method)).collect();
        if taken.is_empty() {
            continue;
        }
        let methods = (taken != rest).then(|| taken.iter().copied().collect());
        routes.push(Taker { route, methods, partly: how == Overlap::Some });
        if how == Overlap::All {
            rest.retain(|method| !taken.contains(method));
        }
    }
    Following { routes, rest }
}

/// How many of one route's paths another one matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlap {
    All,
    Some,
}

fn overlap((place, path): (u32, &PathMatch), (at, other): (u32, &PathMatch)) -> Option<Overlap> {
    let within = |path: &str, prefix: &str| {
        let prefix = prefix.trim_end_matches('/');
        path.trim_end_matches('/')
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (path, other) {
        (PathMatch::Exact(path), PathMatch::Exact(other)) => (path == other).then_some(Overlap::All),
        (PathMatch::Exact(path) | PathMatch::Prefix(path), PathMatch::Prefix(prefix)) => {
            within(path, prefix).then_some(Overlap::All)
        }
        // One path of many; its own requests followed it before and still do.
        (PathMatch::Prefix(_) | PathMatch::Regex(_), PathMatch::Exact(_)) => None,
        // A narrower prefix took its requests first, and still does; only the one for everything says it all.
        (PathMatch::Regex(_), PathMatch::Prefix(prefix)) => {
            prefix.trim_end_matches('/').is_empty().then_some(Overlap::All)
        }
        (PathMatch::Exact(_) | PathMatch::Prefix(_), PathMatch::Regex(_)) => Some(Overlap::Some),
        // An earlier one won before, and still does.
        (PathMatch::Regex(_), PathMatch::Regex(_)) => (at >= place).then_some(Overlap::Some),
    }
}

/// Sorts routes into matching order.
fn rank(route: &RouteDoc, place: u32) -> (u8, usize, u32) {
    match &route.path {
        PathMatch::Exact(_) => (0, 0, place),
        PathMatch::Prefix(prefix) => (1, usize::MAX - prefix.trim_end_matches('/').len(), place),
        PathMatch::Regex(_) => (2, 0, place),
    }
}

/// A route as it is called in a sentence: `/account/* (auth required · role=customer)`.
fn described(route: &RouteDoc) -> String {
    let who = match (route.auth_in_force(), route.demands().to_string()) {
        (AuthMode::Public, needs) if needs.is_empty() => "public: no sign-in".to_owned(),
        (AuthMode::Optional, needs) if needs.is_empty() => "optional: no sign-in needed".to_owned(),
        (AuthMode::Public, needs) => format!("public: no sign-in · {needs}"),
        (AuthMode::Optional, needs) => format!("optional: no sign-in needed · {needs}"),
        (AuthMode::Required, needs) if needs.is_empty() => "auth required".to_owned(),
        (AuthMode::Required, needs) => format!("auth required · {needs}"),
    };
    format!("{} ({who})", route.path)
}

impl Following<'_> {
    /// Whether some requests match no route, or perhaps none.
    pub(super) fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// As the API shows it.
    pub(super) fn view(&self) -> Vec<FollowingRoute> {
        let view = |taker: &Taker<'_>| FollowingRoute {
            id: taker.route.id,
            path: taker.route.path.to_string(),
            auth: taker.route.auth_in_force(),
            require: taker.route.require.clone(),
            needs: taker.route.demands().to_string(),
            methods: taker.methods.iter().flatten().map(|&method| method.to_owned()).collect(),
            partly: taker.partly,
        };
        self.routes.iter().map(view).collect()
    }

    /// As a sentence about a route that was removed.
    pub(super) fn sentence(&self) -> String {
        if self.routes.is_empty() {
            return "Requests for it get 404 from now on.".to_owned();
        }
        format!("Requests for it now {}.", self.words())
    }

    /// What requests do: `follow /* (public: no sign-in)`, `get 404`.
    fn words(&self) -> String {
        if self.routes.is_empty() {
            return "get 404".to_owned();
        }
        let part = |taker: &Taker<'_>| {
            let mut part = described(taker.route);
            if let Some(methods) = &taker.methods {
                part.push_str(" for ");
                part.push_str(&methods.join(", ").replace(OTHERS, "all other methods"));
            }
            if taker.partly {
                part.push_str(" where it matches");
            }
            part
        };
        let parts: Vec<String> = self.routes.iter().map(part).collect();
        let rest = if self.has_rest() { ", and get 404 otherwise" } else { "" };
        format!("follow {}{rest}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use mezusphere_model::Entropy;
    use mezusphere_model::id::RouteId;
    use mezusphere_model::route::Requirement;
    use mezusphere_model::slug::{Name, Slug};

    use super::*;

    /// `PATH [METHOD,…] [public|optional|ROLE]`, required where a role or nothing is given.
    fn route(text: &str) -> RouteDoc {
        let mut words = text.split(' ');
        let path = PathMatch::parse(words.next().unwrap()).unwrap();
        let (mut methods, mut auth, mut require) = (Vec::new(), AuthMode::Required, Requirement::default());
        for word in words {
            match word {
                "public" => auth = AuthMode::Public,
                "optional" => auth = AuthMode::Optional,
                word if word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b',') => {
                    methods = word.split(',').map(str::to_owned).collect();
                }
                role => require.any_role = vec![Name::parse(role).unwrap()],
            }
        }
        let id = RouteId::random(&Entropy::counting());
        let upstream = Slug::parse("default").unwrap();
        RouteDoc { methods, require, ..RouteDoc::new(id, path, auth, upstream) }
    }

    fn others(texts: &[&str]) -> Vec<RouteDoc> {
        texts.iter().map(|text| route(text)).collect()
    }

    fn placed(routes: &[RouteDoc]) -> Vec<(u32, &RouteDoc)> {
        (0..).zip(routes).collect()
    }

    #[test]
    fn a_removed_route_tells_who_takes_its_requests() {
        let rows: [(&str, &[&str], &str); 11] = [
            ("/z/*", &[], "Requests for it get 404 from now on."),
            ("/z/*", &["/zz/*", "/z/in", "/z"], "Requests for it get 404 from now on."),
            ("/z/*", &["/* public"], "Requests for it now follow /* (public: no sign-in)."),
            (
                "/z/a",
                &["/* public", "/z/* admin"],
                "Requests for it now follow /z/* (auth required · role=admin).",
            ),
            ("/z", &["/z/*"], "Requests for it now follow /z/* (auth required)."),
            (
                "/z/*",
                &["/z/* GET", "/* public"],
                "Requests for it now follow /z/* (auth required) for GET, HEAD, /* (public: no sign-in).",
            ),
            ("/z/* GET", &["/* POST public"], "Requests for it get 404 from now on."),
            (
                "/z/*",
                &["/* POST optional"],
                "Requests for it now follow /* (optional: no sign-in needed) for POST, and get 404 otherwise.",
            ),
            (
                "/z/*",
                &["~/z.* public"],
                "Requests for it now follow ~/z.* (public: no sign-in) where it matches, and get 404 otherwise.",
            ),
            ("/z/*", &["~/z.* public", "/*"], "Requests for it now follow /* (auth required)."),
            ("~/z.*", &["/* public"], "Requests for it now follow /* (public: no sign-in)."),
        ];
        for (gone, left, sentence) in rows {
            let (gone, left) = (route(gone), others(left));
            let after = after_removal(0, &gone, &placed(&left));
            assert_eq!(after.sentence(), sentence, "{} among {left:?}", gone.path);
            assert_eq!(after.has_rest(), sentence.contains("404"), "{sentence}");
            assert_eq!(after.view().len(), after.routes.len());
        }
    }

    #[test]
    fn a_route_for_some_methods_tells_where_the_others_go() {
        let beside = others(&["/* public"]);
        let notes = |new: &str| notes(9, &route(new), &placed(&beside));
        assert_eq!(
            notes("/admin GET"),
            ["this route takes GET, HEAD only; other requests for /admin follow /* (public: no sign-in)"]
        );
        assert_eq!(notes("/admin"), Vec::<String>::new());
        assert_eq!(super::notes(9, &route("/admin POST"), &[]), Vec::<String>::new());
    }

    #[test]
    fn a_public_route_inside_a_protected_one_is_told() {
        let beside = others(&["/account/* customer", "/* public"]);
        let notes = |new: &str| notes(9, &route(new), &placed(&beside));
        assert_eq!(
            notes("/account/help public"),
            [
                "without this route /account/help would follow /account/* (auth required · role=customer); with it \
              nobody has to sign in"
            ]
        );
        assert_eq!(notes("/help public"), Vec::<String>::new());
        assert_eq!(notes("/account/mine customer"), Vec::<String>::new());
    }
}
