//! The site that tests of routing publish their routes on.

use mezusphere_model::Host;
use mezusphere_model::id::{DirectoryId, EnvironmentId, OrganizationId, ProjectId};
use mezusphere_model::route::{RouteDoc, SiteDoc};
use mezusphere_model::rules::ProjectQuota;
use mezusphere_model::slug::Slug;

/// `shop.example` with these routes, at its first revision.
pub(crate) fn publishing(routes: Vec<RouteDoc>) -> SiteDoc {
    SiteDoc {
        min_reader: 1,
        organization: OrganizationId::from_bits(1),
        project: ProjectId::from_bits(1),
        environment: EnvironmentId::from_bits(1),
        project_slug: Slug::parse("shop").unwrap(),
        environment_slug: Slug::parse("production").unwrap(),
        display_name: "Shop".to_owned(),
        directory: DirectoryId::from_bits(1),
        hosts: vec![Host::parse("shop.example").unwrap()],
        routes,
        revision: 1,
        quota: ProjectQuota::default(),
    }
}
