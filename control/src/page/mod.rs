//! The hosted pages: one typed struct per template, each with `sample()`, so that a test can render them all.
//!
//! Server-rendered, no script, no inline style, everything escaped by askama. Words are in [`text`], looks in
//! `look/` (shared with the edge's pages, which a visitor meets one click away) and `templates/style.css`. Which page is shown when, and with which status, is `login`'s.

mod account;
pub(crate) mod asset;
mod first_sign_in;
mod moment;
mod notice;
mod problem;
mod sign_in;
mod sign_out;
pub(crate) mod text;

use askama::Template;

pub(crate) use account::{Account, App, SignInCard};
pub(crate) use first_sign_in::FirstSignIn;
pub(crate) use moment::Moment;
pub(crate) use notice::{Notice, NoticeKind};
pub(crate) use problem::Problem;
pub(crate) use sign_in::{LeadsTo, SignIn};
pub(crate) use sign_out::{SignOut, SignedOut};
use text::Texts;

/// The mark at the top of every page.
const MARK: &str = include_str!("../../../look/mark.html");

/// What every page carries: its language and where its looks are.
#[derive(Clone, Copy)]
pub(crate) struct Chrome {
    pub(crate) t: &'static Texts,
    pub(crate) stylesheet: &'static str,
    pub(crate) icon: &'static str,
}

impl Chrome {
    /// The chrome of pages in English.
    pub(crate) fn english() -> Self {
        Self { t: &text::ENGLISH, stylesheet: asset::stylesheet_path(), icon: asset::icon_path() }
    }
}

/// A page that can be shown.
pub(crate) trait Page: Template {
    /// The page as a person might meet it, for the test that renders them all and for looking at.
    #[cfg(test)]
    fn sample() -> Vec<(&'static str, Self)>
    where
        Self: Sized;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sample of every page, by name.
    fn all() -> Vec<(&'static str, String)> {
        fn render<P: Page>() -> Vec<(&'static str, String)> {
            P::sample().into_iter().map(|(name, page)| (name, page.render().unwrap())).collect()
        }
        [
            render::<SignIn>(),
            render::<FirstSignIn>(),
            render::<SignOut>(),
            render::<SignedOut>(),
            render::<Account>(),
            render::<Notice>(),
        ]
        .concat()
    }

    #[test]
    fn every_page_renders_whole_with_a_title_a_heading_and_a_language() {
        for (name, html) in all() {
            for part in ["<!doctype html>", "<html lang=\"en\">", "<h1>", "</html>", "name=\"viewport\""] {
                assert_eq!(html.matches(part).count(), 1, "{name}: {part}");
            }
            let title = html.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(title.ends_with(" · Mezusphere") && title.len() > 20, "{name}: {title}");
            assert!(!html.contains("{}"), "{name}: a placeholder is left");
        }
    }

    #[test]
    fn r18_no_page_holds_a_script_an_inline_style_or_a_foreign_address() {
        for (name, html) in all() {
            for part in
                ["<script", "<style", " style=", " onload", " onclick", "javascript:", "http://", "//cdn"]
            {
                assert!(!html.contains(part), "{name}: {part}");
            }
        }
    }

    #[test]
    fn every_field_has_a_label_and_every_description_exists() {
        for (name, html) in all() {
            for id in attribute_values(&html, "aria-describedby").into_iter().flat_map(str::split_whitespace)
            {
                assert!(html.contains(&format!(" id=\"{id}\"")), "{name}: no element {id}");
            }
            let ids = |kind: &str| html.matches(kind).count();
            let shown = ids("<input id=");
            assert_eq!(ids("<label for="), shown, "{name}: one label per field");
            assert!(ids("aria-invalid") <= shown, "{name}");
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
        for (name, html) in all() {
            let html = html.replace("\"/assets/", "\"assets/");
            std::fs::write(dir.join(format!("{name}.html")), html).unwrap();
        }
        std::fs::create_dir_all(dir.join("assets")).unwrap();
        for asset in asset::ALL {
            std::fs::write(dir.join(asset.path().trim_start_matches('/')), asset.body).unwrap();
        }
    }
}
