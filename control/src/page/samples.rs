//! What samples of pages share, and the test that renders them all.

use askama::Template as _;

use super::*;

/// The address of many samples.
pub(super) const ADA: &str = "ada@shop.example";

/// A form token.
pub(super) const FORM: &str = "eyJmbG93IjoiZmx3XzAxIn0.c2lnbmF0dXJl";

/// A name that is long, and not of ASCII.
pub(super) const LONG: &str =
    "Kreisverwaltung Mecklenburgische Seenplatte — Ąžuolė Ødegård-Þórsdóttir 渡辺 🦉";

/// The looks of the installation itself.
pub(super) fn plain() -> Chrome {
    Chrome::english()
}

/// The looks of a directory of its own, with the hardest kind of colour: a light one.
pub(super) fn branded() -> Chrome {
    Chrome::branded(Brand::sample())
}

pub(super) fn shop() -> LeadsTo {
    LeadsTo { name: "Shop".to_owned(), host: "shop.localhost".to_owned() }
}

pub(super) fn at(seconds: i64) -> Moment {
    Moment(mezusphere_model::Timestamp::from_seconds(1_795_294_748 + seconds))
}

/// Every sample of every page, by name.
fn all() -> Vec<(&'static str, String)> {
    fn render<P: Page>() -> Vec<(&'static str, String)> {
        P::sample().into_iter().map(|(name, page)| (name, page.render().unwrap())).collect()
    }
    [
        render::<SignIn>(),
        render::<Confirm>(),
        render::<ChooseAccount>(),
        render::<TooWeak>(),
        render::<AskMail>(),
        render::<MailSent>(),
        render::<Choose>(),
        render::<ConfirmAddress>(),
        render::<Done>(),
        render::<SignOut>(),
        render::<SignedOut>(),
        render::<Account>(),
        render::<Accounts>(),
        render::<ChangeName>(),
        render::<ChangeEmail>(),
        render::<VerifyEmail>(),
        render::<ChangePassword>(),
        render::<Sessions>(),
        render::<History>(),
        render::<Notice>(),
    ]
    .concat()
}

#[test]
fn every_page_renders_whole_with_a_title_a_heading_and_a_language() {
    for (name, html) in all() {
        for part in ["<!doctype html>", "<html lang=\"en\">", "<h1", "</html>", "name=\"viewport\"", "<main"]
        {
            assert_eq!(html.matches(part).count(), 1, "{name}: {part}");
        }
        let title = html.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
        assert!(title.contains(" · ") && title.len() > 15, "{name}: {title}");
        assert!(!html.contains("{}"), "{name}: a placeholder is left");
    }
}

#[test]
fn every_sample_has_a_name_of_its_own() {
    let mut names: Vec<_> = all().into_iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn r18_no_page_holds_a_script_an_inline_style_or_a_foreign_address() {
    for (name, html) in all() {
        for part in ["<script", "<style", " style=", " onload", " onclick", "javascript:", "http://", "//cdn"]
        {
            assert!(!html.contains(part), "{name}: {part}");
        }
    }
}

#[test]
fn every_field_has_a_label_and_every_reference_leads_somewhere() {
    for (name, html) in all() {
        for attribute in ["aria-describedby", "aria-labelledby", "for"] {
            for id in attribute_values(&html, attribute).into_iter().flat_map(str::split_whitespace) {
                assert!(html.contains(&format!(" id=\"{id}\"")), "{name}: no element {id}");
            }
        }
        for target in attribute_values(&html, "href").into_iter().filter_map(|href| href.strip_prefix('#')) {
            assert!(html.contains(&format!(" id=\"{target}\"")), "{name}: nothing at #{target}");
        }
        let count = |kind: &str| html.matches(kind).count();
        assert_eq!(count("<label for="), count("<input id="), "{name}: one label per field");
        assert!(count(" autofocus") <= 1, "{name}: one cursor");
        assert_eq!(count("role=\"alert\"") > 0, html.contains("<title>Error: "), "{name}");
    }
}

#[test]
fn an_id_is_given_once_per_page() {
    for (name, html) in all() {
        let mut ids = attribute_values(&html, "id");
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}: {ids:?}");
    }
}

#[test]
fn password_managers_and_keyboards_know_what_every_field_is_for() {
    let known =
        ["username", "email", "name", "nickname", "current-password", "new-password", "one-time-code"];
    for (name, html) in all() {
        for input in html.split("<input ").skip(1).map(|rest| rest.split('>').next().unwrap()) {
            if input.contains("type=\"hidden\"") {
                continue;
            }
            let told = attribute_values(input, "autocomplete");
            assert!(told.len() == 1 && known.contains(&told[0]), "{name}: {input}");
            let secret = input.contains("type=\"password\"");
            assert!(!(secret && input.contains(" value=")), "{name}: a password is never written back");
        }
        if html.contains("type=\"password\"") {
            assert!(html.contains("autocomplete=\"username\""), "{name}: whose password is it?");
        }
    }
}

fn attribute_values<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn what_people_typed_is_escaped() {
    let mut page = SignIn::sample().remove(0).1;
    page.email = "\"><script>alert(1)</script>".to_owned();
    page.app = Some(LeadsTo { name: "<b>Shop</b>".to_owned(), host: "<b>shop</b>".to_owned() });
    let html = page.render().unwrap();
    assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
}

/// Writes all pages to the directory in `MEZU_PAGES`, with the assets beside them, to be looked at.
#[test]
fn pages_can_be_written_out_to_be_looked_at() {
    let Some(dir) = std::env::var_os("MEZU_PAGES").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(dir.join("assets")).unwrap();
    for (name, html) in all() {
        let html = html.replace("\"/assets/", "\"assets/").replace("\"/logo/", "\"logo/");
        std::fs::write(dir.join(format!("{name}.html")), html).unwrap();
    }
    for asset in asset::ALL {
        std::fs::write(dir.join(asset.path().trim_start_matches('/')), asset.body).unwrap();
    }
    let (css, (logo, picture)) = (Brand::sample_stylesheet(), Brand::sample_logo());
    for (path, content) in [(css.0, css.1.into_bytes()), (logo, picture)] {
        let path = dir.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}
