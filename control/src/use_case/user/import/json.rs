//! JSON as it comes in: an array of objects, or one object to a line. Objects are cut out by their braces, then read.

use super::raw::{Raw, Unreadable};

/// Longest object, in octets: claims and a hash, with room to spare.
const OBJECT_LEN_MAX: usize = 64 * 1024;

/// What the file is, as far as it has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Unknown,
    /// One object after the other.
    Lines,
    Array,
    /// Nothing may follow any more.
    ArrayEnded,
}

/// Reads a file piece by piece.
#[derive(Default)]
pub(super) struct JsonFile {
    /// The object so far.
    object: Vec<u8>,
    /// How many braces and brackets of it are open.
    depth: usize,
    in_text: bool,
    escaped: bool,
    shape: Shape,
    line: u64,
    begun_on: u64,
}

impl JsonFile {
    pub(super) fn new() -> Self {
        Self { line: 1, ..Self::default() }
    }

    /// Reads a piece of the file; an empty one is its end.
    pub(super) fn read(
        &mut self,
        piece: &[u8],
        found: &mut impl FnMut(u64, Result<Raw, String>),
    ) -> Result<(), Unreadable> {
        if piece.is_empty() && (self.depth > 0 || self.shape == Shape::Array) {
            return Err(Unreadable { line: self.line, why: "the file breaks off".to_owned() });
        }
        for byte in piece.iter().copied() {
            if self.depth > 0 {
                self.inside(byte, found)?;
            } else {
                self.between(byte)?;
            }
            self.line += u64::from(byte == b'\n');
        }
        Ok(())
    }

    fn inside(
        &mut self,
        byte: u8,
        found: &mut impl FnMut(u64, Result<Raw, String>),
    ) -> Result<(), Unreadable> {
        self.object.push(byte);
        if self.object.len() > OBJECT_LEN_MAX {
            let why = format!("an object longer than {OBJECT_LEN_MAX} octets; is a brace or quote missing?");
            return Err(Unreadable { line: self.begun_on, why });
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            b'{' | b'[' if !self.in_text => self.depth += 1,
            b'}' | b']' if !self.in_text => self.depth -= 1,
            _ => {}
        }
        if self.depth == 0 {
            let read = serde_json::from_slice::<Raw>(&self.object).map_err(|why| sentence(&why));
            found(self.begun_on, read);
            self.object.clear();
        }
        Ok(())
    }

    fn between(&mut self, byte: u8) -> Result<(), Unreadable> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' if self.shape == Shape::Array => {}
            b'[' if self.shape == Shape::Unknown => self.shape = Shape::Array,
            b']' if self.shape == Shape::Array => self.shape = Shape::ArrayEnded,
            b'{' if self.shape != Shape::ArrayEnded => {
                if self.shape == Shape::Unknown {
                    self.shape = Shape::Lines;
                }
                (self.depth, self.begun_on) = (1, self.line);
                self.object.push(byte);
            }
            _ => {
                let why = "not an array of objects, nor one object to a line".to_owned();
                return Err(Unreadable { line: self.line, why });
            }
        }
        Ok(())
    }
}

/// What is wrong, without the place: that is counted from the object's beginning.
fn sentence(why: &serde_json::Error) -> String {
    let text = why.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
