//! A directory's colour, made legible: contrast is computed, never hoped for (WCAG 2.2, 1.4.3 and 1.4.11).

use std::fmt;

/// Least contrast of text, with some room for rounding.
const TEXT_CONTRAST_MIN: f64 = 4.6;

/// Least contrast of what shows where a button is.
const EDGE_CONTRAST_MIN: f64 = 3.1;

/// Steps in which a colour is moved towards black or white until it is legible.
const STEPS: u8 = 50;

/// A colour of sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour([u8; 3]);

/// The papers of `look/style.css`, in light and dark.
pub(super) const LIGHT_PAPER: Colour = Colour([0xfa, 0xf9, 0xf7]);
pub(super) const DARK_PAPER: Colour = Colour([0x15, 0x16, 0x14]);

const WHITE: Colour = Colour([0xff; 3]);
const BLACK: Colour = Colour([0x0b, 0x0c, 0x0b]);

/// What the looks make of one colour on one paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    /// For links, rings and the mark: legible on the paper.
    pub(super) accent: Colour,
    /// The same, pointed at.
    pub(super) accent_deep: Colour,
    /// The colour itself, for buttons.
    pub(super) button: Colour,
    /// A button pointed at.
    pub(super) button_deep: Colour,
    /// Text on a button.
    pub(super) on_button: Colour,
    /// A button's edge, where the button alone would not show on the paper.
    pub(super) button_edge: Colour,
}

impl Colour {
    /// Reads `#rrggbb`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        if digits.len() != 6 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        let part = |range| u8::from_str_radix(digits.get(range)?, 16).ok();
        Some(Self([part(0..2)?, part(2..4)?, part(4..6)?]))
    }

    /// The colour of these parts.
    #[cfg(test)]
    pub(super) const fn of(parts: [u8; 3]) -> Self {
        Self(parts)
    }

    /// What the looks make of it on `paper`.
    pub(super) fn on(self, paper: Self) -> Scheme {
        let far = if paper.luminance() > 0.5 { BLACK } else { WHITE };
        let accent = self.until(far, |colour| colour.contrast(paper) >= TEXT_CONTRAST_MIN);
        // One of the two is always legible on any colour.
        let on_button = if self.contrast(WHITE) >= TEXT_CONTRAST_MIN { WHITE } else { BLACK };
        let button = self.until(if on_button == WHITE { BLACK } else { WHITE }, |colour| {
            colour.contrast(on_button) >= TEXT_CONTRAST_MIN
        });
        // Away from the text on it, so that pointing at a button never makes it less legible.
        let button_deep = button.towards(if on_button == WHITE { BLACK } else { WHITE }, 9);
        let shows = button.contrast(paper) >= EDGE_CONTRAST_MIN;
        Scheme {
            accent,
            accent_deep: accent.towards(far, 12),
            button,
            button_deep,
            on_button,
            button_edge: if shows { button } else { accent },
        }
    }

    /// The first on the way to `end` that is good; `end` itself at last.
    fn until(self, end: Self, good: impl Fn(Self) -> bool) -> Self {
        (0..STEPS).map(|step| self.towards(end, step)).find(|colour| good(*colour)).unwrap_or(end)
    }

    fn towards(self, end: Self, step: u8) -> Self {
        let mut mixed = self.0;
        for (from, to) in mixed.iter_mut().zip(end.0) {
            let (a, b, n) = (u16::from(*from), u16::from(to), u16::from(step));
            let sum = a * u16::from(STEPS).saturating_sub(n) + b * n;
            *from = u8::try_from(sum / u16::from(STEPS)).unwrap_or(u8::MAX);
        }
        Self(mixed)
    }

    /// From 1 to 21 (WCAG 2.2, "contrast ratio").
    fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// WCAG 2.2, "relative luminance".
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours() -> impl Iterator<Item = Colour> {
        let parts = [0u8, 1, 51, 85, 102, 128, 153, 187, 204, 238, 254, 255];
        parts
            .into_iter()
            .flat_map(move |r| parts.into_iter().flat_map(move |g| parts.map(|b| Colour([r, g, b]))))
    }

    #[test]
    fn any_colour_becomes_legible_on_both_papers() {
        for colour in colours() {
            for paper in [LIGHT_PAPER, DARK_PAPER] {
                let scheme = colour.on(paper);
                for (text, ground) in [
                    (scheme.accent, paper),
                    (scheme.accent_deep, paper),
                    (scheme.on_button, scheme.button),
                    (scheme.on_button, scheme.button_deep),
                ] {
                    let contrast = text.contrast(ground);
                    assert!(contrast >= 4.5, "{colour} on {paper}: {text} on {ground} is {contrast:.2}");
                }
                assert!(scheme.button_edge.contrast(paper) >= 3.0, "{colour} on {paper}: the button shows");
            }
        }
    }

    #[test]
    fn a_colour_that_is_legible_stays_as_it_is() {
        let teal = Colour::parse("#0c6b62").unwrap();
        let scheme = teal.on(LIGHT_PAPER);
        assert_eq!((scheme.accent, scheme.button, scheme.on_button), (teal, teal, WHITE));
        let yellow = Colour::parse("#ffd400").unwrap();
        assert_eq!((yellow.on(LIGHT_PAPER).button, yellow.on(LIGHT_PAPER).on_button), (yellow, BLACK));
    }

    #[test]
    fn a_colour_is_six_digits() {
        assert_eq!(Colour::parse("#0C6b62").unwrap().to_string(), "#0c6b62");
        for text in ["", "#", "#fff", "0c6b62", "#0c6b6", "#0c6b622", "#gggggg", "#+1+1+1", "red;}", "#ﬀﬀ"]
        {
            assert_eq!(Colour::parse(text), None, "{text}");
        }
    }
}
