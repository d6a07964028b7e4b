//! Custom domains: what a project must prove, what is published before (nothing), and who gets a host that two ask for.

use super::*;
use crate::domain::name_server::{NameServer, Says};

const SHOP: &str = "/projects/shop/environments/production/hosts";
const BLOG: &str = "/projects/blog/environments/production/hosts";
const HOST: &str = "www.shop.example";
const RECORD: &str = "_mezusphere.www.shop.example";

/// An installation that asks for proofs, and the DNS it asks.
async fn world() -> (World, NameServer) {
    let dns = NameServer::start().await;
    let config = ControlConfig {
        custom_domains: CustomDomains::Verified,
        dns_resolver: Some(dns.at),
        ..development()
    };
    let world = World::with(config).await;
    world.project("shop").await;
    world.project("blog").await;
    (world, dns)
}

async fn claim(world: &World, hosts: &str) -> String {
    let made = world.post(hosts, json!({ "host": HOST })).await.ok();
    assert_eq!((&made["state"], &made["verification"]["record"]), (&json!("pending"), &json!(RECORD)));
    made["verification"]["value"].as_str().unwrap().to_owned()
}

/// Hosts that any edge could learn of.
async fn published(world: &World) -> Vec<String> {
    let mut hosts = Vec::new();
    for project in ["shop", "blog"] {
        let id =
            world.get(&format!("/projects/{project}")).await.ok()["id"].as_str().unwrap().parse().unwrap();
        for document in world.documents(Partition::Project(id)).await {
            match document {
                Document::Site(site) => hosts.extend(site.hosts.iter().map(ToString::to_string)),
                Document::Certificate(doc) => hosts.extend(doc.names),
                _ => {}
            }
        }
    }
    hosts.retain(|host| host == HOST);
    hosts
}

async fn verify(world: &World, hosts: &str) -> Got {
    world.post(&format!("{hosts}/{HOST}/verify"), json!({})).await
}

#[tokio::test]
async fn a_custom_domain_is_published_only_once_its_record_is_there() {
    let (world, dns) = world().await;
    let value = claim(&world, SHOP).await;
    assert_eq!(claim(&world, SHOP).await, value, "asking again shows the same record");
    verify(&world, SHOP).await.refused(409, "host.unproven");
    dns.say(RECORD, Says::Texts(vec!["mezusphere-verify=somebody-elses".to_owned()]));
    let got = verify(&world, SHOP).await;
    got.refused(409, "host.unproven");
    assert!(got.text("/detail").contains("somebody-elses"), "{}", got.body);
    assert!(got.text("/next").contains(&value), "{}", got.body);
    assert_eq!(published(&world).await, [""; 0], "nothing is published before");

    dns.say(RECORD, Says::Texts(vec!["v=spf1 -all".to_owned(), value]));
    let got = verify(&world, SHOP).await.ok();
    assert_eq!((&got["state"], &got["certificate"]["state"]), (&json!("published"), &json!("valid")));
    assert_eq!(published(&world).await.len(), 2, "in the site, and with a certificate");
    assert_eq!(verify(&world, SHOP).await.ok()["state"], "published", "again: it is there");
    let audit = world.get("/projects/shop/audit").await.ok().to_string();
    assert!(audit.contains("host.claim") && audit.contains("\"host.add\""), "{audit}");
}

#[tokio::test]
async fn a_claim_is_looked_for_by_itself_and_less_often_as_it_ages() {
    let (world, dns) = world().await;
    let shared = Arc::clone(&world.control.shared);
    let value = claim(&world, SHOP).await;
    assert_eq!(shared.look_for_claims().await.unwrap(), 0);
    let attempts = async || world.get(SHOP).await.ok()["items"][1]["verification"]["attempts"].clone();
    assert_eq!(attempts().await, 0, "not at once: a missing record is remembered as missing");
    world.advance(61);
    assert_eq!(shared.look_for_claims().await.unwrap(), 0);
    assert_eq!(shared.look_for_claims().await.unwrap(), 0);
    assert_eq!(attempts().await, 1, "and not again before its time");
    dns.say(RECORD, Says::Code(2));
    world.advance(31);
    shared.look_for_claims().await.unwrap();
    let listed = world.get(SHOP).await.ok();
    let error = listed["items"][1]["verification"]["error"].as_str().unwrap();
    assert!(error.contains("could not be looked up"), "{error}");
    dns.say(RECORD, Says::Texts(vec![value]));
    world.advance(31);
    assert_eq!(shared.look_for_claims().await.unwrap(), 1);
    assert_eq!(published(&world).await.len(), 2);
}

#[tokio::test]
async fn r22_of_two_projects_that_claim_a_host_the_one_that_proves_it_has_it() {
    let (world, dns) = world().await;
    let (theirs, ours) = (claim(&world, BLOG).await, claim(&world, SHOP).await);
    assert_ne!(theirs, ours);
    dns.say(RECORD, Says::Texts(vec![ours.clone()]));
    verify(&world, BLOG).await.refused(409, "host.unproven");
    verify(&world, SHOP).await.ok();
    // Even with both records: a host has one owner.
    dns.say(RECORD, Says::Texts(vec![ours, theirs]));
    verify(&world, BLOG).await.refused(409, "object.exists");
    world.advance(120);
    assert_eq!(world.control.shared.look_for_claims().await.unwrap(), 0);
    let listed = world.get(BLOG).await.ok();
    let error = listed["items"][1]["verification"]["error"].as_str().unwrap();
    assert!(error.contains("another project holds"), "{error}");
    world.post(SHOP, json!({ "host": HOST })).await.refused(409, "object.exists");
    // Given up by its owner, it is the next one's.
    assert_eq!(world.delete(&format!("{SHOP}/{HOST}")).await.status, 204);
    verify(&world, BLOG).await.ok();
}

#[tokio::test]
async fn a_claim_nobody_proves_is_forgotten_after_a_week() {
    let (world, dns) = world().await;
    let first = claim(&world, SHOP).await;
    world.advance(7 * 24 * 3600 + 1);
    dns.say(RECORD, Says::Texts(vec![first.clone()]));
    assert_eq!(world.control.shared.look_for_claims().await.unwrap(), 0);
    verify(&world, SHOP).await.refused(404, "object.not_found");
    assert_eq!(world.get(SHOP).await.ok()["items"].as_array().unwrap().len(), 1);
    assert_ne!(claim(&world, SHOP).await, first, "asked for anew, the record is a new one");
    verify(&world, SHOP).await.refused(409, "host.unproven");
}

#[tokio::test]
async fn a_claim_is_withdrawn_and_nothing_of_it_stays() {
    let (world, dns) = world().await;
    let value = claim(&world, SHOP).await;
    world.post("/projects/shop/environments", json!({ "slug": "staging" })).await.ok();
    let staging = "/projects/shop/environments/staging/hosts";
    world.post(staging, json!({ "host": HOST })).await.refused(409, "object.exists");
    assert_eq!(world.delete(&format!("{SHOP}/{HOST}")).await.status, 204);
    dns.say(RECORD, Says::Texts(vec![value]));
    verify(&world, SHOP).await.refused(404, "object.not_found");
    world.post(staging, json!({ "host": HOST })).await.ok();
    assert_eq!(world.delete("/projects/shop/environments/staging").await.status, 204);
    world.advance(120);
    assert_eq!(world.control.shared.look_for_claims().await.unwrap(), 0);
    assert_eq!(published(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_name_under_localhost_needs_no_proof_and_a_silent_dns_is_told() {
    let (world, dns) = world().await;
    let config = ControlConfig {
        platform: Platform {
            base: mezusphere_model::Host::parse("mezu.example").unwrap(),
            apps: mezusphere_model::Host::parse("apps.example").unwrap(),
            port: 443,
        },
        custom_domains: CustomDomains::Verified,
        dns_resolver: Some(dns.at),
        ..development()
    };
    let world = world.restart(config).await;
    let made = world.post(SHOP, json!({ "host": "shop.localhost" })).await.ok();
    assert_eq!(made["state"], "published");
    claim(&world, SHOP).await;
    dns.say(RECORD, Says::Code(5));
    verify(&world, SHOP).await.refused(502, "dns.failed");
}

/// The shop has proven the host, and the blog's record is the only one in the DNS now. Both records' values.
async fn contested() -> (World, NameServer, String, String) {
    let (world, dns) = world().await;
    let ours = claim(&world, SHOP).await;
    dns.say(RECORD, Says::Texts(vec![ours.clone()]));
    verify(&world, SHOP).await.ok();
    let theirs = claim(&world, BLOG).await;
    dns.say(RECORD, Says::Texts(vec![theirs.clone()]));
    let got = verify(&world, BLOG).await;
    got.refused(409, "object.exists");
    assert!(got.text("/next").contains("2027-01-18"), "in three days: {}", got.body);
    (world, dns, ours, theirs)
}

/// Lets time go on, with a look every half hour; says how many hosts were published.
async fn hours(world: &World, hours: u64) -> usize {
    let mut published = 0;
    for _ in 0..2 * hours {
        world.advance(1800);
        published += world.control.shared.look_for_claims().await.unwrap();
    }
    published
}

#[tokio::test]
async fn a_domain_that_changed_hands_is_its_new_owners_after_three_days() {
    let (world, _dns, ours, _) = contested().await;
    let shown = world.get(SHOP).await.ok()["items"][1]["contest"].clone();
    assert_eq!((&shown["record"], &shown["value"]), (&json!(RECORD), &json!(ours)), "as it was");
    assert_eq!(world.get(BLOG).await.ok()["items"][1]["contest"], Value::Null);
    let audit = async || world.get("/projects/shop/audit").await.ok().to_string();
    assert!(audit().await.contains("host.contest"));
    assert_eq!(hours(&world, 71).await, 0);
    assert_eq!(published(&world).await.len(), 2, "it is the shop's still");
    assert_eq!(hours(&world, 2).await, 1);
    let of = async |hosts| world.get(hosts).await.ok()["items"].as_array().unwrap().len();
    assert_eq!((of(SHOP).await, of(BLOG).await), (1, 2));
    assert_eq!(published(&world).await.len(), 2, "in one site, with one certificate");
    assert!(audit().await.contains("host.remove"));
}

#[tokio::test]
async fn r22_who_gets_at_a_domains_dns_for_a_while_does_not_get_the_host() {
    let (world, dns, ours, theirs) = contested().await;
    hours(&world, 60).await;
    // The holder is back in time, and leaves its record there.
    dns.say(RECORD, Says::Texts(vec![theirs.clone(), ours]));
    assert_eq!(hours(&world, 24).await, 0);
    assert_eq!(world.get(SHOP).await.ok()["items"][1]["contest"], Value::Null);
    // It is lost again: three days from then on, whatever was before; and not while the other record is away.
    dns.say(RECORD, Says::Texts(vec![theirs.clone()]));
    assert_eq!(hours(&world, 48).await, 0);
    dns.say(RECORD, Says::Texts(vec![]));
    hours(&world, 1).await;
    dns.say(RECORD, Says::Texts(vec![theirs]));
    assert_eq!(hours(&world, 71).await, 0);
    assert_eq!(hours(&world, 2).await, 1);
}
