//! A directory's own looks: its name, its logo, its colour, and where its people find help.
//!
//! A colour becomes a stylesheet, computed from it and served under its own name, so that pages stay without
//! inline style. A logo is served from the store under the digest of its octets. Settings are checked where they
//! are set, and once more here: what cannot be shown safely is left away.

use aws_lc_rs::digest;
use base64::Engine as _;
#[cfg(test)]
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mezusphere_model::id::DirectoryId;
use mezusphere_store::primary::directory::DirectoryRow;

use super::colour::{Colour, DARK_PAPER, LIGHT_PAPER, Scheme};

/// Where logos are served: `/logo/<directory>/<digest>`.
pub(crate) const LOGO: &str = "/logo";

/// Longest name at the end of a page, in code points.
const NAME_LEN_MAX: usize = 100;

/// The looks of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brand {
    /// In place of the product's name.
    pub(super) name: Option<String>,
    /// The logo's path.
    pub(super) logo: Option<String>,
    /// The path of the stylesheet of its colour.
    pub(super) stylesheet: Option<String>,
    pub(super) support: Option<Support>,
}

/// Where people find help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Support {
    pub(super) text: String,
    /// Where it leads; `None`: it is shown as text.
    pub(super) href: Option<String>,
}

impl Brand {
    /// The looks of this directory.
    pub(crate) fn of(directory: &DirectoryRow) -> Self {
        let brand = &directory.settings.brand;
        let shown = |text: &String| text.chars().take(NAME_LEN_MAX).collect::<String>().trim().to_owned();
        Self {
            name: brand.name.as_ref().map(shown).filter(|name| !name.is_empty()),
            logo: brand.logo.as_ref().map(|logo| logo_path(directory.id, &logo.digest)),
            stylesheet: brand.colour.as_deref().and_then(Colour::parse).map(stylesheet_path),
            support: brand
                .support
                .as_ref()
                .map(shown)
                .filter(|text| !text.is_empty())
                .map(|text| Support::of(&text)),
        }
    }
}

impl Support {
    pub(super) fn of(text: &str) -> Self {
        let plain = text.chars().all(|c| c.is_ascii_graphic() && !"\"'<>\\`?&".contains(c));
        let href = if plain && text.starts_with("https://") {
            Some(text.to_owned())
        } else {
            (plain && text.contains('@')).then(|| format!("mailto:{text}"))
        };
        Self { text: text.trim_start_matches("https://").trim_end_matches('/').to_owned(), href }
    }
}

fn logo_path(directory: DirectoryId, digest: &str) -> String {
    format!("{LOGO}/{directory}/{digest}")
}

fn stylesheet_path(colour: Colour) -> String {
    let hash = digest::digest(&digest::SHA256, stylesheet(colour).as_bytes());
    let short = hash.as_ref().get(..12).unwrap_or_default();
    format!(
        "/assets/colour-{}-{}.css",
        colour.to_string().trim_start_matches('#'),
        URL_SAFE_NO_PAD.encode(short)
    )
}

/// The stylesheet at this path, if it is one of a colour.
pub(crate) fn find_stylesheet(path: &str) -> Option<String> {
    let digits = path.strip_prefix("/assets/colour-")?.get(..6)?;
    let colour = Colour::parse(&format!("#{digits}"))?;
    (stylesheet_path(colour) == path).then(|| stylesheet(colour))
}

fn stylesheet(colour: Colour) -> String {
    let mut css = String::from(":root {\n");
    write_scheme(&mut css, colour.on(LIGHT_PAPER));
    css.push_str("}\n\n@media (prefers-color-scheme: dark) {\n:root {\n");
    write_scheme(&mut css, colour.on(DARK_PAPER));
    css.push_str("}\n}\n");
    css
}

fn write_scheme(css: &mut String, scheme: Scheme) {
    let Scheme { accent, accent_deep, button, button_deep, on_button, button_edge } = scheme;
    let all = [
        ("accent", accent),
        ("accent-deep", accent_deep),
        ("button", button),
        ("button-deep", button_deep),
        ("on-button", on_button),
        ("button-edge", button_edge),
    ];
    for (name, value) in all {
        css.extend(["  --", name, ": ", &value.to_string(), ";\n"]);
    }
}

#[cfg(test)]
impl Brand {
    const SAMPLE: Colour = Colour::of([0xff, 0xd4, 0x00]);

    /// A wheel and a word, as PNG in base64.
    const SAMPLE_LOGO: &str = "iVBORw0KGgoAAAANSUhEUgAAAIAAAAAgAQMAAADg7OJmAAAABlBMVEX///8zK2ahTrGzAAAAAXRSTlMAQObYZgAAAJJJREFU\
        eNqF0cEJwzAMBdAvfPAxC5h2DR8CXau3ynSQruJu4hF8LYSoxCUhsqDWzQ9sWV/AuKbawWPtQESf6fNiBe79zLiuHoguSQF8\
        SkXBRFwVXIjvKPhBDkAgjv9hJp4VROKgwWUNN5HlgK2tAXWlQf+oaTv+qRmujX+GPSCpfqGt7R7hAS3kM5g12EWZVY7qC0be\
        b16SsZI0AAAAAElFTkSuQmCC";

    /// The hardest kind: a light colour, a long name, a logo.
    pub(super) fn sample() -> Self {
        Self {
            name: Some("Łódź Cycling Club".to_owned()),
            logo: Some(Self::sample_logo().0),
            stylesheet: Some(stylesheet_path(Self::SAMPLE)),
            support: Some(Support::of("help@cycling.example")),
        }
    }

    /// The stylesheet that the sample refers to.
    pub(super) fn sample_stylesheet() -> (String, String) {
        (stylesheet_path(Self::SAMPLE), stylesheet(Self::SAMPLE))
    }

    /// The logo that the sample refers to.
    pub(super) fn sample_logo() -> (String, Vec<u8>) {
        let picture = STANDARD.decode(Self::SAMPLE_LOGO).unwrap();
        (logo_path(DirectoryId::from_bits(7), "0123456789abcdef0123456789abcdef"), picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stylesheet_is_found_under_its_own_name_only() {
        let path = stylesheet_path(Colour::parse("#0c6b62").unwrap());
        let css = find_stylesheet(&path).unwrap();
        assert!(css.contains("--button: #0c6b62;") && css.contains("prefers-color-scheme: dark"), "{css}");
        let others = [
            path.replace("0c6b62", "0c6b63"),
            path.replace("0c6b62", "0C6B62"),
            path.replace(".css", ""),
            "/assets/colour-0c6b62.css".to_owned(),
            "/assets/colour-".to_owned(),
            "/assets/colour-ééé".to_owned(),
        ];
        for other in others {
            assert_eq!(find_stylesheet(&other), None, "{other}");
        }
    }

    #[test]
    fn help_is_linked_where_that_is_safe() {
        let href = |text: &str| Support::of(text).href;
        assert_eq!(href("help@shop.example").as_deref(), Some("mailto:help@shop.example"));
        assert_eq!(href("https://help.shop.example/").as_deref(), Some("https://help.shop.example/"));
        for text in ["http://a.example", "javascript:alert(1)//@", "a@b?bcc=eve@c", "Ask Ada", "+49 30 1234"]
        {
            let href = href(text);
            assert!(href.is_none_or(|href| href.starts_with("mailto:") && !href.contains('?')), "{text}");
        }
    }
}
