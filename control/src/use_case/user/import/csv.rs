//! CSV (RFC 4180) as it comes in: a header line that names the columns, then a user to a line.

use csv_core::{ReadRecordResult, Reader};

use super::raw::{Raw, Unreadable};

/// Longest record, in octets: claims and a hash, with room to spare.
const RECORD_LEN_MAX: usize = 64 * 1024;

/// Most columns: more than there are is a mistake, and none may be named twice.
const COLUMNS_MAX: usize = 16;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Email,
    Name,
    DisplayName,
    Roles,
    Status,
    Verified,
    Claims,
    PasswordHash,
}

impl Column {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "email" => Self::Email,
            "name" => Self::Name,
            "display_name" => Self::DisplayName,
            "roles" => Self::Roles,
            "status" => Self::Status,
            "verified" => Self::Verified,
            "claims" => Self::Claims,
            "password_hash" => Self::PasswordHash,
            "password" => return Err(super::raw::NO_PASSWORDS.to_owned()),
            _ => {
                return Err(
                    "the first line must name columns among email, name, display_name, roles, status, \
                            verified, claims, password_hash"
                        .to_owned(),
                );
            }
        })
    }
}

/// Reads a file piece by piece.
pub(super) struct CsvFile {
    reader: Reader,
    /// Fields of the record so far, one after the other, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    len: usize,
    count: usize,
    columns: Option<Vec<Column>>,
    /// The line the record begins on.
    line: u64,
}

impl CsvFile {
    pub(super) fn new() -> Self {
        Self {
            reader: Reader::new(),
            fields: vec![0; RECORD_LEN_MAX],
            ends: vec![0; COLUMNS_MAX],
            len: 0,
            count: 0,
            columns: None,
            line: 1,
        }
    }

    /// Reads a piece of the file; an empty one is its end.
    pub(super) fn read(
        &mut self,
        mut piece: &[u8],
        found: &mut impl FnMut(u64, Result<Raw, String>),
    ) -> Result<(), Unreadable> {
        if self.line == 1 && self.len == 0 {
            piece = piece.strip_prefix("\u{feff}".as_bytes()).unwrap_or(piece); // spreadsheets write it
        }
        let is_end = piece.is_empty();
        loop {
            let fields = self.fields.get_mut(self.len..).unwrap_or_default();
            let ends = self.ends.get_mut(self.count..).unwrap_or_default();
            let (result, read, written, ended) = self.reader.read_record(piece, fields, ends);
            piece = piece.get(read..).unwrap_or_default();
            self.len += written;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty if is_end => {} // the last line had no end: asked again
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(()),
                ReadRecordResult::OutputFull => {
                    let why = format!("longer than {RECORD_LEN_MAX} octets; is a quote missing?");
                    return Err(Unreadable { line: self.line, why });
                }
                ReadRecordResult::OutputEndsFull => {
                    let why = format!("more than {COLUMNS_MAX} columns");
                    return Err(Unreadable { line: self.line, why });
                }
                ReadRecordResult::Record => {
                    let line = self.line;
                    self.line = self.reader.line();
                    self.record(line, found)?;
                    (self.len, self.count) = (0, 0);
                }
            }
        }
    }

    fn record(
        &mut self,
        line: u64,
        found: &mut impl FnMut(u64, Result<Raw, String>),
    ) -> Result<(), Unreadable> {
        let ends = self.ends.get(..self.count).unwrap_or_default();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let fields = starts.zip(ends).map(|(start, end)| self.fields.get(start..*end).unwrap_or_default());
        let fields: Result<Vec<&str>, _> = fields.map(std::str::from_utf8).collect();
        let Some(columns) = &self.columns else {
            let unreadable = |why: String| Unreadable { line, why };
            let names = fields.map_err(|_| unreadable("not UTF-8".to_owned()))?;
            let columns: Vec<Column> =
                names.into_iter().map(Column::parse).collect::<Result<_, _>>().map_err(unreadable)?;
            let twice = columns
                .iter()
                .enumerate()
                .any(|(at, one)| columns.iter().skip(at + 1).any(|other| other == one));
            if twice || !columns.contains(&Column::Email) {
                return Err(unreadable("the first line must name each column once, and email".to_owned()));
            }
            self.columns = Some(columns);
            return Ok(());
        };
        found(line, fields.map_err(|_| "not UTF-8".to_owned()).and_then(|fields| raw(columns, &fields)));
        Ok(())
    }
}

fn raw(columns: &[Column], fields: &[&str]) -> Result<Raw, String> {
    if fields.len() != columns.len() {
        return Err(format!("{} columns where the first line has {}", fields.len(), columns.len()));
    }
    let mut raw = Raw::default();
    for (column, field) in columns.iter().zip(fields) {
        let text = field.trim();
        if text.is_empty() {
            continue;
        }
        match column {
            Column::Email => text.clone_into(&mut raw.email),
            Column::Name => raw.name = Some(text.to_owned()),
            Column::DisplayName => raw.display_name = Some(text.to_owned()),
            Column::Roles => {
                let names = text.split([';', '|', ' ', ',']).filter(|name| !name.is_empty());
                raw.roles = names.map(str::to_owned).collect();
            }
            Column::Status => raw.status = Some(text.to_owned()),
            Column::Verified => raw.verified = Some(truth(text)?),
            Column::Claims => {
                let claims = serde_json::from_str(text);
                raw.claims = Some(claims.map_err(|_| "claims: not a JSON object".to_owned())?);
            }
            Column::PasswordHash => raw.password_hash = Some(text.to_owned()),
        }
    }
    Ok(raw)
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err("verified: write true or false".to_owned()),
    }
}
