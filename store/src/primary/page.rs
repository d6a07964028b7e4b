//! Lists in pages: a list never grows past a limit, and the next page starts after the last row's key.

/// Most rows in one page.
pub const PAGE_LEN_MAX: usize = 200;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows after this key; what [`Paged::next`] gave.
    pub after: Option<String>,
    /// At most so many, capped at [`PAGE_LEN_MAX`].
    pub limit: usize,
}

impl PageRequest {
    /// The first page, as large as one may be.
    pub fn first() -> Self {
        Self { after: None, limit: PAGE_LEN_MAX }
    }

    /// The page after the one that gave `key`.
    pub fn after(key: impl Into<String>) -> Self {
        Self { after: Some(key.into()), limit: PAGE_LEN_MAX }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page starts; `None`: this was the last.
    pub next: Option<String>,
}

impl PageRequest {
    /// How many rows to ask the database for: one more than the page, to know whether there is a next one.
    pub(super) fn fetch(&self) -> u64 {
        self.len() as u64 + 1
    }

    /// The key to start after; the empty text is before every key.
    pub(super) fn start(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    /// How many rows the page has at most.
    pub(super) fn len(&self) -> usize {
        self.limit.clamp(1, PAGE_LEN_MAX)
    }

    /// The page made of the rows [`PageRequest::fetch`] asked for.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let more = rows.len() > self.len();
        rows.truncate(self.len());
        let next = if more { rows.last().map(key) } else { None };
        Paged { rows, next }
    }
}
