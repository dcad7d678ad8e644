//! JSON, read object by object: an array of them, one a line (NDJSON), or one after the other over several lines.
//!
//! With lines, a bad line spoils only itself; elsewhere what isn't JSON ends the reading, because nobody can tell where
//! the next object begins. Keys are those of the CSV header, in the database's spelling or the HTTP interface's camelCase.
//! Meaning and checks: `fields.rs`. Tests: `json_tests.rs`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::window::{LONGEST, Window};
use super::{Entry, Item, Options, ReadError, entry, fields};

const TOO_LONG: &str = "it is longer than 1 MiB";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Array,
    Lines,
    /// Objects after each other.
    Stream,
}

/// Reads object by object.
pub struct Objects<'a> {
    window: Window<'a>,
    layout: Layout,
    options: &'a Options,
    /// Where the window begins, from 1.
    line: usize,
    column: usize,
    count: usize,
    ended: bool,
    /// Keys of an export that nobody sets.
    pub read_only: Vec<&'static str>,
}

impl<'a> Objects<'a> {
    /// Finds out how the objects are laid out.
    ///
    /// # Errors
    /// There are none.
    pub fn new(window: Window<'a>, options: &'a Options) -> Result<Self, ReadError> {
        let mut objects = Self {
            window,
            layout: Layout::Array,
            options,
            line: 1,
            column: 1,
            count: 0,
            ended: false,
            read_only: Vec::new(),
        };
        match objects.peek()? {
            None => return Err(ReadError::Empty),
            Some(b'[') => objects.pass(1),
            Some(b'{') => objects.layout = objects.layout_of_objects()?,
            Some(0) => return Err(ReadError::Unmarked),
            Some(_) => return Err(ReadError::JsonShape),
        }
        Ok(objects)
    }

    /// One a line, as soon as one line is one.
    fn layout_of_objects(&mut self) -> Result<Layout, ReadError> {
        loop {
            let seen = self.window.seen();
            let whole = |line: &&[u8]| serde_json::from_slice::<Pairs>(line).is_ok();
            let lines = seen.split_inclusive(|byte| *byte == b'\n');
            let mut complete = lines.filter(|line| self.window.ended() || line.ends_with(b"\n"));
            if complete.any(|line| line.first() == Some(&b'{') && whole(&line)) {
                return Ok(Layout::Lines);
            }
            if !self.window.widen()? {
                return Ok(Layout::Stream);
            }
        }
    }

    /// The next object.
    ///
    /// # Errors
    /// The file can't be read, or is no JSON from here on.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        match self.layout {
            Layout::Lines => self.next_line(),
            Layout::Stream => match self.peek()? {
                None => Ok(None),
                Some(b'{') => self.next_value().map(Some),
                Some(_) => Err(self.broken()),
            },
            Layout::Array => {
                let first = self.count == 0;
                match (self.peek()?, first) {
                    (Some(b']'), true) => return self.end(),
                    (Some(_), true) => {}
                    (Some(b','), false) => self.pass(1),
                    (Some(b']'), false) => return self.end(),
                    _ => return Err(self.broken()),
                }
                match self.peek()? {
                    None | Some(b',' | b']') => Err(self.broken()),
                    Some(_) => self.next_value().map(Some),
                }
            }
        }
    }

    fn end(&mut self) -> Result<Option<Entry>, ReadError> {
        self.pass(1);
        self.ended = true;
        match self.peek()? {
            None => Ok(None),
            Some(_) => Err(self.broken()),
        }
    }

    fn next_line(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        let place = format!("line {}", self.line);
        let mut length = 0;
        let whole = loop {
            let seen = self.window.seen();
            match seen[length..].iter().position(|byte| *byte == b'\n') {
                Some(more) => break Some(length + more),
                None => length = seen.len(),
            }
            if !self.window.widen()? {
                break self.window.ended().then_some(length);
            }
        };
        let Some(length) = whole else {
            self.window.pass_while(|byte| byte != b'\n')?;
            return Ok(Some(entry(place, None, Err(TOO_LONG.into()))));
        };
        let parsed = serde_json::from_slice::<Pairs>(&self.window.seen()[..length]);
        self.pass(length);
        Ok(Some(match parsed {
            Ok(pairs) => self.item(place, pairs),
            Err(error) if error.is_data() => entry(place, None, Err("not an object".into())),
            Err(error) => {
                let problem = format!("not valid JSON at column {}", error.column());
                entry(place, None, Err(problem))
            }
        }))
    }

    /// The value that the window begins with.
    fn next_value(&mut self) -> Result<Entry, ReadError> {
        self.count += 1;
        let place = format!("item {}", self.count);
        let mut scan = Scan::default();
        let mut length = 0;
        loop {
            let seen = self.window.seen();
            let (more, found) = scan.look(&seen[length..]);
            length += more;
            if found || !self.window.widen()? {
                break;
            }
        }
        if length >= LONGEST {
            self.skip_value(scan, length)?;
            return Ok(entry(place, None, Err(TOO_LONG.into())));
        }
        let parsed = serde_json::from_slice::<Pairs>(&self.window.seen()[..length]);
        if let Err(error) = &parsed
            && !error.is_data()
        {
            let column = match error.line() {
                0 | 1 => self.column + error.column().saturating_sub(1),
                _ => error.column(),
            };
            return Err(ReadError::Json {
                line: self.line + error.line().saturating_sub(1),
                column,
            });
        }
        self.pass(length);
        Ok(match parsed {
            Ok(pairs) => self.item(place, pairs),
            Err(_) => entry(place, None, Err("not an object".into())),
        })
    }

    /// Passes over a value that doesn't fit into the window, keeping nothing of it.
    fn skip_value(&mut self, mut scan: Scan, seen: usize) -> Result<(), ReadError> {
        self.pass(seen);
        while !scan.found {
            if self.window.seen().is_empty() && !self.window.widen()? {
                return Err(self.broken());
            }
            let (length, _) = scan.look(self.window.seen());
            self.pass(length);
        }
        Ok(())
    }

    fn item(&mut self, place: String, pairs: Pairs) -> Entry {
        let mut item = Item::new();
        let mut problem = None;
        for (key, value) in pairs.0 {
            let Some(field) = fields::canonical(&key) else {
                if !self.options.ignore_unknown {
                    let label = fields::quoted_label(&key);
                    problem.get_or_insert(format!("a key{label} is not a field of a secret"));
                }
                continue;
            };
            if fields::is_read_only(field) && !self.read_only.contains(&field) {
                self.read_only.push(field);
            }
            match text_of(field, &value) {
                _ if item.contains_key(field) => {
                    problem.get_or_insert(format!("{field} is given twice"));
                }
                Ok(value) => {
                    item.insert(field.into(), value);
                }
                Err(told) => {
                    problem.get_or_insert(told);
                }
            }
        }
        let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
        let item = problem.map_or_else(|| fields::finish(item, self.options), Err);
        entry(place, name.as_deref(), item)
    }

    /// The next byte that isn't white space, to which the window is moved.
    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let seen = self.window.seen();
            let blank = seen
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            self.pass(blank);
            if let Some(byte) = self.window.seen().first() {
                return Ok(Some(*byte));
            }
            if !self.window.widen()? {
                return Ok(None);
            }
        }
    }

    fn pass(&mut self, length: usize) {
        let passed = &self.window.seen()[..length];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.column = match passed.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => length - last,
            None => self.column + length,
        };
        self.window.pass(length);
    }

    fn broken(&self) -> ReadError {
        ReadError::Json {
            line: self.line,
            column: self.column,
        }
    }
}

/// Numbers as they are written, so that they keep every digit; labels as they are written for the same reason.
fn text_of(field: &str, value: &RawValue) -> Result<Value, String> {
    let text = value.get();
    if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && field != "labels" {
        return Ok(Value::String(text.to_owned()));
    }
    if text.starts_with('{') && field == "labels" {
        return Ok(Value::String(text.to_owned()));
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::String(_) | Value::Null)) => Ok(value),
        Ok(_) if fields::is_read_only(field) => Ok(Value::Null),
        Ok(_) if field == "labels" => Err("labels must be an object".to_owned()),
        Ok(_) => Err(format!("{field} must be text")),
        Err(_) => Err(format!("{field} can't be read as JSON text")),
    }
}

/// Looks for the end of a value, over as many pieces as it takes.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    found: bool,
}

impl Scan {
    /// How many bytes of `data` belong to the value, and whether it ends there.
    fn look(&mut self, data: &[u8]) -> (usize, bool) {
        for (index, &byte) in data.iter().enumerate() {
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b'}' | b']' if self.depth == 0 => {
                    self.found = true;
                    return (index, true);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.found = true;
                        return (index + 1, true);
                    }
                }
                _ => {}
            }
        }
        (data.len(), false)
    }
}

/// The members of an object in their order, repeated ones too.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
