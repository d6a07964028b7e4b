//! A directory's own looks, and what is served for them.

use axum::body::Body;
use http::Method;
use mezusphere_store::primary::directory::{self, Logo, LogoType};

use super::browser::{Browser, TO_BLOG, TO_SHOP};
use super::world::World;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

async fn furnish(world: &World) {
    let id = world.shop.directory;
    world
        .settings(id, |settings| {
            settings.brand.name = Some("Łódź <Cycling>".to_owned());
            settings.brand.colour = Some("#ffd400".to_owned());
            settings.brand.support = Some("help@cycling.example".to_owned());
        })
        .await;
    let logo = Logo { media_type: LogoType::Png, bytes: PNG.to_vec() };
    let organization = world.organization;
    let write = world.primary.write(async |tx| directory::set_logo(tx, organization, id, Some(&logo)).await);
    write.await.unwrap();
}

fn attribute(body: &str, before: &str) -> String {
    body.split(before).nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn r18_a_directorys_looks_are_served_from_here_under_names_of_their_content() {
    let world = World::new().await;
    furnish(&world).await;
    let mut browser = Browser::new(&world);
    let page = browser.get(TO_SHOP).await;
    assert!(
        page.body.contains("Łódź &#60;Cycling&#62;") && page.body.contains("mailto:help@cycling.example")
    );
    let logo = attribute(&page.body, "<img class=\"logo\" src=\"");
    let css = format!("/assets/colour-{}", attribute(&page.body, "href=\"/assets/colour-"));
    for (path, kind, body) in
        [(&logo, "image/png", ""), (&css, "text/css; charset=utf-8", "--button: #ffd400")]
    {
        let answer = browser.send(Method::GET, path, &[], Body::empty()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        assert!(answer.body.contains(body), "{path}");
    }
    let other = browser.get(TO_BLOG).await.body;
    assert!(!other.contains("/logo/") && !other.contains("colour-"), "the blog has none of it");
    for path in [
        format!("{}0", &logo[..logo.len() - 1]),
        logo.replace(&world.shop.directory.to_string(), &world.blog.directory.to_string()),
        "/logo/x/y".to_owned(),
        css.replace("ffd400", "ffd401"),
        "/assets/colour-ffd400.css".to_owned(),
    ] {
        assert_eq!(browser.get(&path).await.code(), "login.not_found", "{path}");
    }
}

#[tokio::test]
async fn r18_settings_cannot_write_into_the_stylesheet_or_the_page() {
    let world = World::new().await;
    let odd = "#ffd400;} body{background:url(https://evil.example)}";
    world
        .settings(world.shop.directory, |settings| {
            settings.brand.colour = Some(odd.to_owned());
            settings.brand.support = Some("javascript:alert(1)".to_owned());
        })
        .await;
    let page = Browser::new(&world).get(TO_SHOP).await.body;
    assert!(!page.contains("colour-") && !page.contains("href=\"javascript"), "{page}");
}
