//! Routes: what is published, and for whom. Every change publishes the environment's site and bundle anew.

mod audit;
mod check;
mod explain;
mod follow;
mod rule;
mod warn;

use std::collections::BTreeSet;

use mezusphere_model::Host;
use mezusphere_model::id::RouteId;
use mezusphere_model::route::{PathMatch, ROUTES_MAX, RouteDoc};
use mezusphere_model::rules::Reader;
use mezusphere_store::primary::environment::EnvironmentRow;
use mezusphere_store::primary::project::ProjectRow;
use mezusphere_store::primary::route::{self, RouteRow};
use mezusphere_store::primary::{ReadTx, Tx, host, role};

use self::check::Draft;
pub(crate) use self::check::mode_text;
pub(crate) use self::explain::explain;
use super::scope;
use crate::Shared;
use crate::api::types::{
    AddRoute, OrderRoutes, Page, Route, RouteAdded, RouteRemoved, Timeouts, UpdateRoute,
};
use crate::caller::{Caller, Permission};
use crate::certificate;
use crate::problem::{self, Refusal};

fn view(row: RouteRow) -> Route {
    let timeouts = row.doc.timeouts;
    Route {
        id: row.doc.id,
        position: row.position,
        path: row.doc.path.to_string(),
        methods: row.doc.methods,
        auth: row.doc.auth,
        require: row.doc.require,
        step_up: row.doc.step_up,
        networks: row.doc.networks,
        enforce: row.doc.enforce,
        identity: row.doc.identity,
        upstream: row.doc.upstream,
        timeouts: Timeouts {
            connect_ms: Some(timeouts.connect_ms),
            head_ms: Some(timeouts.head_ms),
            idle_ms: Some(timeouts.idle_ms),
            total_ms: Some(timeouts.total_ms).filter(|total| *total != 0),
        },
        rules: rule::view(row.doc.rules),
        limits: rule::limits_view(row.doc.limits),
        affinity: row.doc.affinity,
        created_at: row.created_at.to_string(),
    }
}

impl From<&RouteDoc> for Draft {
    fn from(doc: &RouteDoc) -> Self {
        Self {
            path: doc.path.clone(),
            methods: doc.methods.clone(),
            auth: doc.auth,
            require: doc.require.clone(),
            step_up: doc.step_up,
            networks: doc.networks.clone(),
            enforce: doc.enforce,
            identity: doc.identity.clone(),
            upstream: doc.upstream.clone(),
            timeouts: doc.timeouts,
            rules: doc.rules.clone(),
            limits: doc.limits,
            affinity: doc.affinity,
        }
    }
}

impl Draft {
    fn into_doc(self, id: RouteId) -> RouteDoc {
        let route = RouteDoc::new(id, self.path, self.auth, self.upstream);
        let mut route = RouteDoc {
            methods: self.methods,
            require: self.require,
            step_up: self.step_up,
            networks: self.networks,
            enforce: self.enforce,
            identity: self.identity,
            timeouts: self.timeouts,
            rules: self.rules,
            limits: self.limits,
            affinity: self.affinity,
            ..route
        };
        route.min_reader = route.reader(Reader::Edge);
        route
    }
}

/// An environment's routes in order. There are at most [`ROUTES_MAX`], so they come in one page.
pub(crate) async fn list(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
) -> Result<Page<Route>, Refusal> {
    let grant = caller.allow(Permission::RoutesRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let rows = route::list(tx, project.id, environment.id).await?;
            Ok(Page { items: rows.into_iter().map(view).collect(), next: None })
        })
        .await
}

/// One route.
pub(crate) async fn show(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
) -> Result<Route, Refusal> {
    let grant = caller.allow(Permission::RoutesRead)?;
    shared
        .primary
        .read(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            find(tx, &project, &environment, name).await.map(view)
        })
        .await
}

/// The environment's route of this id, or of this path if it is the only one.
async fn find(
    tx: &mut ReadTx,
    project: &ProjectRow,
    environment: &EnvironmentRow,
    name: &str,
) -> Result<RouteRow, Refusal> {
    if let Ok(id) = name.parse::<RouteId>() {
        let row = route::get(tx, project.id, id).await?;
        let row = row.filter(|row| row.environment == environment.id);
        return row.ok_or_else(|| scope::not_found("route", name));
    }
    let mut rows = route::list(tx, project.id, environment.id).await?;
    rows.retain(|row| row.doc.path.to_string() == name);
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        (Some(_), false) => Err(Refusal::new(&problem::NOT_FOUND, "several routes have this path")
            .with_next("name the route by its id")),
        (None, _) => Err(scope::not_found("route", name)),
    }
}

/// Adds one.
pub(crate) async fn add(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    request: &AddRoute,
) -> Result<RouteAdded, Refusal> {
    let grant = caller.allow(Permission::RoutesWrite)?;
    let draft = Draft::new(request)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let beside = route::list(tx, project.id, environment.id).await?;
            if beside.len() >= ROUTES_MAX {
                let detail = format!("an environment has at most {ROUTES_MAX} routes");
                return Err(Refusal::new(&problem::LIMIT, detail));
            }
            let doc = draft.into_doc(RouteId::random(&shared.entropy));
            let mut row = route::insert(tx, project.id, environment.id, &doc).await?;
            if beside.is_empty() {
                certificate::first_route(tx, shared, project.id, environment.id).await?;
            }
            if let Some(position) = request.position {
                row.position = put_at(tx, &project, &environment, &beside, doc.id, position).await?;
            }
            shared.publish_site(tx, project.id, environment.id).await?;
            let detail = audit::summary(&doc);
            scope::audit(tx, &grant, &project, "route.add", &doc.id, detail);
            answer(tx, shared, &beside, row).await
        })
        .await
}

/// Moves a route to `position`, or the end, among `beside`, which are the others in order.
async fn put_at(
    tx: &mut Tx,
    project: &ProjectRow,
    environment: &EnvironmentRow,
    beside: &[RouteRow],
    id: RouteId,
    position: u32,
) -> Result<u32, Refusal> {
    let mut order: Vec<RouteId> = beside.iter().map(|row| row.doc.id).collect();
    let place = usize::try_from(position).unwrap_or(usize::MAX).min(order.len());
    order.insert(place, id);
    route::reorder(tx, project.id, environment.id, &order).await?;
    Ok(u32::try_from(place).unwrap_or(u32::MAX))
}

/// Changes what the request names.
pub(crate) async fn update(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
    request: &UpdateRoute,
) -> Result<RouteAdded, Refusal> {
    let grant = caller.allow(Permission::RoutesWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let mut row = find(tx, &project, &environment, name).await?;
            let doc = Draft::from(&row.doc).updated(request)?.into_doc(row.doc.id);
            route::update(tx, project.id, &doc).await?;
            shared.publish_site(tx, project.id, environment.id).await?;
            let detail = audit::change(&row.doc, &doc);
            scope::audit(tx, &grant, &project, "route.update", &doc.id, detail);
            row.doc = doc;
            let routes = route::list(tx, project.id, environment.id).await?;
            answer(tx, shared, &routes, row).await
        })
        .await
}

/// Puts the environment's routes in another order.
pub(crate) async fn order(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    request: &OrderRoutes,
) -> Result<Page<Route>, Refusal> {
    let grant = caller.allow(Permission::RoutesWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let rows = route::list(tx, project.id, environment.id).await?;
            let have: BTreeSet<RouteId> = rows.iter().map(|row| row.doc.id).collect();
            let asked: BTreeSet<RouteId> = request.routes.iter().copied().collect();
            if have != asked || asked.len() != request.routes.len() {
                let detail = "routes: every route of the environment must be named exactly once";
                return Err(Refusal::new(&problem::ROUTE_INVALID, detail)
                    .with_next("list the routes again; another change may have come between"));
            }
            route::reorder(tx, project.id, environment.id, &request.routes).await?;
            shared.publish_site(tx, project.id, environment.id).await?;
            let detail = serde_json::json!({ "slug": environment.slug, "routes": request.routes });
            scope::audit(tx, &grant, &project, "route.order", &environment.id, detail);
            let rows = route::list(tx, project.id, environment.id).await?;
            Ok(Page { items: rows.into_iter().map(view).collect(), next: None })
        })
        .await
}

/// Removes one, and tells which routes take its requests from then on.
pub(crate) async fn remove(
    shared: &Shared,
    caller: &Caller,
    project: &str,
    environment: &str,
    name: &str,
) -> Result<RouteRemoved, Refusal> {
    let grant = caller.allow(Permission::RoutesWrite)?;
    shared
        .primary
        .write(async |tx| {
            let project = scope::project(tx, &grant, project).await?;
            let environment = scope::environment(tx, &project, environment).await?;
            let row = find(tx, &project, &environment, name).await?;
            route::delete(tx, project.id, row.doc.id).await?;
            shared.publish_site(tx, project.id, environment.id).await?;
            scope::audit(tx, &grant, &project, "route.remove", &row.doc.id, audit::summary(&row.doc));
            let rows = route::list(tx, project.id, environment.id).await?;
            let others: Vec<(u32, &RouteDoc)> = rows.iter().map(|row| (row.position, &row.doc)).collect();
            let after = follow::after_removal(row.position, &row.doc, &others);
            let (follows, not_found, now) = (after.view(), after.has_rest(), after.sentence());
            Ok(RouteRemoved { route: view(row), follows, not_found, now })
        })
        .await
}

/// The route with its URL and what looks wrong about it among `routes`, the environment's.
async fn answer(
    tx: &mut ReadTx,
    shared: &Shared,
    routes: &[RouteRow],
    row: RouteRow,
) -> Result<RouteAdded, Refusal> {
    let known = role::list(tx, row.project).await?;
    let roles = known.iter().map(|role| role.name.clone()).collect();
    let permissions = known.iter().flat_map(|role| role.permissions.iter().cloned()).collect();
    let beside: Vec<Draft> = routes
        .iter()
        .filter(|other| other.doc.id != row.doc.id)
        .map(|other| Draft::from(&other.doc))
        .collect();
    let mut warnings = Draft::from(&row.doc).warnings(&roles, &permissions, &beside);
    let others: Vec<(u32, &RouteDoc)> = routes
        .iter()
        .filter(|other| other.doc.id != row.doc.id)
        .map(|other| (other.position, &other.doc))
        .collect();
    warnings.extend(follow::notes(row.position, &row.doc, &others));
    let hosts = host::list(tx, row.project, row.environment).await?;
    let url = hosts.first().map(|host| url(shared, &host.host, &row.doc.path)).unwrap_or_default();
    Ok(RouteAdded { route: view(row), url, warnings })
}

/// Where the route begins, for people to click on; a regular expression has no beginning but the host.
fn url(shared: &Shared, host: &Host, path: &PathMatch) -> String {
    let path = match path {
        PathMatch::Exact(path) => path.as_str(),
        PathMatch::Prefix(path) if path.is_empty() => "/",
        PathMatch::Prefix(path) => path,
        PathMatch::Regex(_) => "/",
    };
    format!("{}{path}", shared.config.platform.origin(host))
}
