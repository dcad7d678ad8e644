//! Splits CSV into records by RFC 4180, strictly where quotes are concerned.
//!
//! This scanner is our own because of one need: after a quote that is never closed, the rows below it must still be
//! imported. A general CSV reader takes the rest of the file as one cell. Here a record with broken quoting is one bad
//! row, and reading goes on at the next line. What the cells mean: `csv.rs`, whose tests cover both.

/// The cells of one record, unquoted but not yet decoded.
pub type Cells = Vec<Vec<u8>>;

/// Reads record by record and knows the line each starts in.
pub struct Lines<'a> {
    data: &'a [u8],
    position: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            position: 0,
            number: 1,
        }
    }

    /// Takes Excel's `sep=;` line if there is one, else counts candidates outside quotes in the first line.
    pub fn delimiter(&mut self) -> u8 {
        let first = &self.data[..line_end(self.data, 0).0];
        if let [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] = first {
            self.skip_line();
            return *delimiter;
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
        [semicolon, tab]
            .into_iter()
            .fold(
                comma,
                |best, other| if other.1 > best.1 { other } else { best },
            )
            .0
    }

    /// The next record and the line it starts in; broken quoting costs that line only.
    pub fn next_record(&mut self, delimiter: u8) -> Option<(usize, Result<Cells, &'static str>)> {
        if self.position >= self.data.len() {
            return None;
        }
        let line = self.number;
        let start = self.position;
        match record(self.data, start, delimiter) {
            Ok((cells, end)) => {
                while self.position < end {
                    self.skip_line();
                }
                Some((line, Ok(cells)))
            }
            Err(problem) => {
                self.skip_line();
                Some((line, Err(problem)))
            }
        }
    }

    fn skip_line(&mut self) {
        self.position = line_end(self.data, self.position).1;
        self.number += 1;
    }
}

/// Where the line at `from` ends, without and with its terminator (LF, CR LF, or CR alone).
fn line_end(data: &[u8], from: usize) -> (usize, usize) {
    let Some(length) = data[from..]
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))
    else {
        return (data.len(), data.len());
    };
    let end = from + length;
    let both = data[end] == b'\r' && data.get(end + 1) == Some(&b'\n');
    (end, end + if both { 2 } else { 1 })
}

/// One record by RFC 4180, strict about quotes, and the position after its line ending.
fn record(data: &[u8], start: usize, delimiter: u8) -> Result<(Cells, usize), &'static str> {
    let mut cells = Vec::new();
    let mut at = start;
    loop {
        let opening = skip_spaces(data, at);
        if data.get(opening) == Some(&b'"') {
            let (cell, after) = quoted_cell(data, opening + 1)?;
            cells.push(cell);
            at = skip_spaces(data, after);
        } else {
            let length = data[at..]
                .iter()
                .position(|&byte| byte == delimiter || matches!(byte, b'\n' | b'\r'));
            let end = length.map_or(data.len(), |length| at + length);
            cells.push(data[at..end].to_vec());
            at = end;
        }
        match data.get(at) {
            Some(&byte) if byte == delimiter => at += 1,
            None | Some(b'\n' | b'\r') => return Ok((cells, line_end(data, at).1)),
            Some(_) => {
                return Err(
                    "text follows a closing quote; a quote inside a quoted cell is written twice",
                );
            }
        }
    }
}

fn quoted_cell(data: &[u8], start: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut cell = Vec::new();
    let mut at = start;
    loop {
        let length = data[at..]
            .iter()
            .position(|&byte| byte == b'"')
            .ok_or("a quote is opened and never closed")?;
        cell.extend_from_slice(&data[at..at + length]);
        at += length + 1;
        if data.get(at) != Some(&b'"') {
            return Ok((cell, at));
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
