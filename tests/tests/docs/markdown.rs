//! Reading Markdown, as much as these checks need: fenced blocks with their markers, links, headings, names in prose.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rotator_tests::scratch::root;

pub struct Page {
    /// Relative to the checkout.
    pub path: PathBuf,
    pub text: String,
}

pub struct Block {
    /// What stands between `<!--` and `-->` in the line above the fence.
    pub marker: Option<String>,
    pub language: String,
    pub content: String,
    pub line: usize,
}

/// Every Markdown page of the checkout.
pub fn pages() -> Result<Vec<Page>> {
    let root = root().canonicalize()?;
    let mut pages = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "node_modules"].contains(&&*name)
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(page(path.strip_prefix(&root)?)?);
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

pub fn page(path: impl AsRef<Path>) -> Result<Page> {
    let path = path.as_ref().to_owned();
    let text =
        std::fs::read_to_string(root().join(&path)).with_context(|| path.display().to_string())?;
    Ok(Page { path, text })
}

impl Page {
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut before = "";
        for (number, line) in self.text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    let marker = before
                        .trim()
                        .strip_prefix("<!--")
                        .and_then(|rest| rest.strip_suffix("-->"));
                    open = Some(Block {
                        marker: marker.map(|marker| marker.trim().to_owned()),
                        language: language.trim().to_owned(),
                        content: String::new(),
                        line: number + 1,
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.content.push_str(line);
                    block.content.push('\n');
                }
                (None, None) => {}
            }
            before = line;
        }
        blocks
    }

    /// The lines outside fenced blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// Targets of inline links: `[text](target)`.
    pub fn links(&self) -> Vec<String> {
        self.prose()
            .flat_map(|line| line.split("](").skip(1))
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .collect()
    }

    /// The anchors that headings get, as the usual renderers make them.
    pub fn anchors(&self) -> Vec<String> {
        self.prose()
            .filter(|line| line.starts_with('#'))
            .map(|line| {
                line.trim_start_matches('#')
                    .trim()
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect()
            })
            .collect()
    }

    /// What stands in backticks, outside fenced blocks.
    pub fn code_spans(&self) -> Vec<&str> {
        self.prose()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect()
    }

    /// Every `prefix.name` on the page, blocks included, that isn't a part of a longer word, path or address.
    pub fn names_after(&self, prefix: &str) -> Vec<String> {
        let part_of_word = |c: char| c.is_alphanumeric() || "_-./@".contains(c);
        self.text
            .match_indices(&format!("{prefix}."))
            .filter(|(at, _)| !self.text[..*at].ends_with(part_of_word))
            .map(|(at, found)| {
                let rest = &self.text[at + found.len()..];
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                rest[..end].to_owned()
            })
            .filter(|name| !name.is_empty())
            .collect()
    }
}
