//! A file seen through a window that is at most a mebibyte wide, so that memory doesn't grow with the file.
//!
//! A row, or an object, must fit into it: the longest that the database takes is a tenth of that. What doesn't is one
//! bad row, of which nothing is kept.

use std::io::Read;

use super::ReadError;

/// Longest row or object, in bytes of UTF-8.
pub const LONGEST: usize = 1024 * 1024;

const CHUNK: usize = 64 * 1024;

pub struct Window<'a> {
    source: Box<dyn Read + 'a>,
    data: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<'a> Window<'a> {
    pub fn new(source: Box<dyn Read + 'a>) -> Self {
        Self {
            source,
            data: Vec::new(),
            start: 0,
            ended: false,
        }
    }

    /// What can be seen now.
    pub fn seen(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// Whether there is nothing behind what can be seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sees more; false when there is no more, or the window is as wide as it may be.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn widen(&mut self) -> Result<bool, ReadError> {
        let before = self.seen().len();
        if self.ended || before >= LONGEST {
            return Ok(false);
        }
        self.data.drain(..self.start);
        self.start = 0;
        // Twice as far each time: what is looked through again stays in proportion.
        let wanted = before.max(CHUNK).min(LONGEST - before);
        let read = self
            .source
            .by_ref()
            .take(wanted as u64)
            .read_to_end(&mut self.data)?;
        self.ended = read < wanted;
        Ok(read > 0)
    }

    /// Moves the window on.
    pub fn pass(&mut self, length: usize) {
        self.start += length;
    }

    /// Moves on over bytes that are `unwanted`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn pass_while(&mut self, unwanted: impl Fn(u8) -> bool) -> Result<(), ReadError> {
        loop {
            let length = self
                .seen()
                .iter()
                .take_while(|byte| unwanted(**byte))
                .count();
            self.pass(length);
            if !self.seen().is_empty() || !self.widen()? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_wider_than_a_mebibyte() {
        let mut window = Window::new(Box::new(std::io::repeat(b'x').take(100 * LONGEST as u64)));
        while window.widen().unwrap() {
            assert!(window.data.capacity() <= 2 * LONGEST);
        }
        assert_eq!(window.seen().len(), LONGEST);
        window.pass_while(|byte| byte == b'x').unwrap();
        assert!(window.ended() && window.seen().is_empty());
        assert!(window.data.capacity() <= 2 * LONGEST);
    }

    #[test]
    fn the_end_is_known_only_once_it_was_reached() {
        let mut window = Window::new(Box::new(&b"  abc"[..]));
        assert!(!window.ended());
        window.pass_while(|byte| byte == b' ').unwrap();
        assert_eq!((window.seen(), window.ended()), (&b"abc"[..], true));
        assert!(!window.widen().unwrap());
    }
}
