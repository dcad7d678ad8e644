//! Finds the blocks of a PEM file (RFC 7468), each with the line it starts in.
//!
//! A broken block is a block with an error, and the search goes on after it. The content of anything that isn't a
//! certificate is passed over unread: a bundle may hold a private key beside its certificate, and that must not reach
//! memory we keep, a message, or the database. What is inside a certificate: `certs.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A certificate of an ordinary size has 1 to 4 KiB; a file that merely looks like one stops here.
const LONGEST_CERTIFICATE: usize = 256 * 1024;

/// What stands between a BEGIN and an END line.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of the BEGIN, from 1.
    pub line: usize,
    pub content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// DER; after it may come OpenSSL's trust settings (`trusted`).
    Certificate {
        der: Vec<u8>,
        trusted: bool,
    },
    /// A certificate's block that can't be decoded.
    Broken(&'static str),
    PrivateKey,
    /// A request, a revocation list, parameters.
    Other,
}

enum Label {
    Certificate { trusted: bool },
    PrivateKey,
    Other,
}

struct Open {
    line: usize,
    text: Vec<u8>,
    label: Label,
    base64: Vec<u8>,
}

/// All blocks in their order; text outside them is skipped, whatever it is.
pub fn blocks(data: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Open> = None;
    for (index, line) in data.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if let Some(text) = boundary(line, b"-----BEGIN ") {
            if let Some(unfinished) = open.take() {
                blocks.push(unfinished.broken("has no END line before the next BEGIN"));
            }
            open = Some(Open {
                line: index + 1,
                text: text.to_vec(),
                label: label(text),
                base64: Vec::new(),
            });
        } else if let Some(text) = boundary(line, b"-----END ") {
            if let Some(finished) = open.take() {
                blocks.push(finished.close(text));
            }
        } else if let Some(Open {
            label: Label::Certificate { .. },
            base64,
            ..
        }) = &mut open
            && base64.len() <= LONGEST_CERTIFICATE
        {
            base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    if let Some(unfinished) = open {
        blocks.push(unfinished.broken("has no END line"));
    }
    blocks
}

fn boundary<'a>(line: &'a [u8], opening: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(opening)?.strip_suffix(b"-----")
}

fn label(text: &[u8]) -> Label {
    match text {
        b"CERTIFICATE" | b"X509 CERTIFICATE" => Label::Certificate { trusted: false },
        b"TRUSTED CERTIFICATE" => Label::Certificate { trusted: true },
        _ if text.ends_with(b"PRIVATE KEY") || text.ends_with(b"PRIVATE KEY BLOCK") => {
            Label::PrivateKey
        }
        _ => Label::Other,
    }
}

impl Open {
    fn close(self, end: &[u8]) -> Block {
        if end != self.text {
            return self.broken("ends with the END line of something else");
        }
        let Label::Certificate { trusted } = self.label else {
            return self.broken("");
        };
        if self.base64.len() > LONGEST_CERTIFICATE {
            return self.broken("is too long to be a certificate");
        }
        match STANDARD.decode(&self.base64) {
            Ok(der) => Block {
                line: self.line,
                content: Content::Certificate { der, trusted },
            },
            Err(_) => self.broken("is not valid base64"),
        }
    }

    /// Only certificates can be broken: what isn't one is not looked at.
    fn broken(self, problem: &'static str) -> Block {
        let content = match self.label {
            Label::Certificate { .. } => Content::Broken(problem),
            Label::PrivateKey => Content::PrivateKey,
            Label::Other => Content::Other,
        };
        Block {
            line: self.line,
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Vec<(usize, Content)> {
        blocks(text.as_bytes())
            .into_iter()
            .map(|block| (block.line, block.content))
            .collect()
    }

    fn certificate(der: &[u8]) -> Content {
        Content::Certificate {
            der: der.to_vec(),
            trusted: false,
        }
    }

    #[test]
    fn text_between_blocks_is_skipped() {
        let text = "Bag Attributes\n-----BEGIN CERTIFICATE-----\r\n  YWJj\r\n-----END CERTIFICATE-----\r\n\u{fc}mlaut\n-----BEGIN CERTIFICATE-----\nZG\nVm\n-----END CERTIFICATE-----";
        assert_eq!(
            contents(text),
            [(2, certificate(b"abc")), (6, certificate(b"def"))]
        );
    }

    #[test]
    fn a_broken_block_does_not_hide_the_next() {
        let text = "-----BEGIN CERTIFICATE-----\nYW*j\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nYWJj\n-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nYWJj\n";
        assert_eq!(
            contents(text),
            [
                (1, Content::Broken("is not valid base64")),
                (4, Content::Broken("has no END line before the next BEGIN")),
                (6, certificate(b"abc")),
                (9, Content::Broken("has no END line")),
            ]
        );
    }

    #[test]
    fn private_keys_are_noticed_and_not_kept() {
        let text = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n-----BEGIN CERTIFICATE REQUEST-----\nYWJj\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(
            contents(text),
            [(1, Content::PrivateKey), (4, Content::Other)]
        );
    }

    #[test]
    fn labels_must_match() {
        let text = "-----BEGIN TRUSTED CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        assert_eq!(
            contents(text),
            [(
                1,
                Content::Broken("ends with the END line of something else")
            )]
        );
    }
}
