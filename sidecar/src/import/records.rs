//! Splits CSV into records by RFC 4180, strictly where quotes are concerned.
//!
//! This scanner is our own because of one need: after a quote that is never closed, the rows below it must still be
//! imported. A general CSV reader takes the rest of the file as one cell. Here a record with broken quoting, or one that
//! is longer than a window, is one bad row, and reading goes on at the next line. What the cells mean: `csv.rs`, whose
//! tests cover both.

use super::ReadError;
use super::window::Window;

/// One cell, unquoted but not yet decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub bytes: Vec<u8>,
    /// It stood in quotes, so spaces around it are its own.
    pub quoted: bool,
}

pub type Cells = Vec<Cell>;

/// A record and the line it starts in, or why it is none.
pub type Record = (usize, Result<Cells, &'static str>);

const UNCLOSED: &str = "a quote is opened and never closed";
const TOO_LONG: &str = "the row is longer than 1 MiB";

/// Reads record by record and knows the line each starts in.
pub struct Lines<'a> {
    window: Window<'a>,
    number: usize,
}

enum Scan {
    /// The record, and how long it is with its line ending.
    Record(Cells, usize),
    Broken(&'static str),
    /// It may go on behind what can be seen.
    Unfinished(&'static str),
}

impl<'a> Lines<'a> {
    pub fn new(window: Window<'a>) -> Self {
        Self { window, number: 1 }
    }

    /// Takes Excel's `sep=;` line if there is one, else counts candidates outside quotes in the first line.
    pub fn delimiter(&mut self) -> Result<u8, ReadError> {
        while !self.window.seen().iter().any(|byte| is_line_end(*byte)) && self.window.widen()? {}
        let seen = self.window.seen();
        let first = &seen[..seen
            .iter()
            .position(|byte| is_line_end(*byte))
            .unwrap_or(seen.len())];
        if let [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] = *first {
            self.skip_line()?;
            return Ok(delimiter);
        }
        let mut quoted = false;
        let mut counts = [(b',', 0_usize), (b';', 0), (b'\t', 0)];
        for &byte in first {
            quoted ^= byte == b'"';
            if let (false, Some(count)) = (
                quoted,
                counts.iter_mut().find(|(candidate, _)| *candidate == byte),
            ) {
                count.1 += 1;
            }
        }
        let [comma, semicolon, tab] = counts;
        let most =
            [semicolon, tab].into_iter().fold(
                comma,
                |best, other| if other.1 > best.1 { other } else { best },
            );
        Ok(most.0)
    }

    /// The next record and the line it starts in; broken quoting costs that line only.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn next_record(&mut self, delimiter: u8) -> Result<Option<Record>, ReadError> {
        if self.window.seen().is_empty() && !self.window.widen()? {
            return Ok(None);
        }
        let line = self.number;
        let problem = loop {
            match record(self.window.seen(), delimiter, self.window.ended()) {
                Scan::Record(cells, length) => {
                    self.number += line_ends(&self.window.seen()[..length]);
                    self.window.pass(length);
                    return Ok(Some((line, Ok(cells))));
                }
                Scan::Broken(problem) => break problem,
                Scan::Unfinished(problem) => {
                    if !self.window.widen()? && !self.window.ended() {
                        break problem;
                    }
                }
            }
        };
        self.skip_line()?;
        Ok(Some((line, Err(problem))))
    }

    fn skip_line(&mut self) -> Result<(), ReadError> {
        self.window.pass_while(|byte| !is_line_end(byte))?;
        if self.window.seen().len() < 2 {
            self.window.widen()?;
        }
        let length = line_end(self.window.seen());
        self.window.pass(length);
        self.number += 1;
        Ok(())
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Length of the line ending (LF, CR LF, or CR alone) that `data` begins with.
fn line_end(data: &[u8]) -> usize {
    match data {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

fn line_ends(data: &[u8]) -> usize {
    let follows = |index: usize| data[index] == b'\n' && index > 0 && data[index - 1] == b'\r';
    (0..data.len())
        .filter(|&index| is_line_end(data[index]) && !follows(index))
        .count()
}

/// The record that `data` begins with. Where a record could go on behind the data, it is finished only if the file is.
fn record(data: &[u8], delimiter: u8, ended: bool) -> Scan {
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        let opening = skip_spaces(data, at);
        if data.get(opening) == Some(&b'"') {
            match quoted_cell(data, opening + 1) {
                Some((bytes, after)) => {
                    cells.push(Cell {
                        bytes,
                        quoted: true,
                    });
                    at = skip_spaces(data, after);
                }
                None if ended => return Scan::Broken(UNCLOSED),
                None => return Scan::Unfinished(UNCLOSED),
            }
        } else {
            let length = data[at..]
                .iter()
                .position(|&byte| byte == delimiter || is_line_end(byte));
            let end = length.map_or(data.len(), |length| at + length);
            cells.push(Cell {
                bytes: data[at..end].to_vec(),
                quoted: false,
            });
            at = end;
        }
        match data.get(at) {
            // After the last byte there may come more of the cell, a second quote, or the LF of a CR LF.
            _ if at + 1 >= data.len() && !ended => return Scan::Unfinished(TOO_LONG),
            Some(&byte) if byte == delimiter => at += 1,
            None | Some(b'\n' | b'\r') => return Scan::Record(cells, at + line_end(&data[at..])),
            Some(_) => {
                return Scan::Broken(
                    "text follows a closing quote; a quote inside a quoted cell is written twice",
                );
            }
        }
    }
}

/// What stands between quotes, and the position after the closing one.
fn quoted_cell(data: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut cell = Vec::new();
    let mut at = start;
    loop {
        let length = data[at..].iter().position(|&byte| byte == b'"')?;
        cell.extend_from_slice(&data[at..at + length]);
        at += length + 1;
        if data.get(at) != Some(&b'"') {
            return Some((cell, at));
        }
        cell.push(b'"');
        at += 1;
    }
}

fn skip_spaces(data: &[u8], from: usize) -> usize {
    from + data[from..]
        .iter()
        .take_while(|&&byte| byte == b' ')
        .count()
}
