//! The `message` of a claim as the database wrote it. Most of what is delivered needs it once, for its words, so it is kept
//! as text and read straight into their types; as a tree only for channels that pass parts of it on.

use std::sync::OnceLock;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, Json, Type, accepts};

/// JSON as it came.
pub struct RawMessage {
    text: Box<RawValue>,
    tree: OnceLock<Value>,
}

impl RawMessage {
    /// To be read as whatever of it is needed.
    pub fn text(&self) -> &RawValue {
        &self.text
    }

    /// All of it; made when it is first asked for.
    pub fn tree(&self) -> &Value {
        // It was found to be JSON when it came.
        self.tree
            .get_or_init(|| serde_json::from_str(self.text.get()).unwrap_or_default())
    }
}

impl Default for RawMessage {
    fn default() -> Self {
        Self {
            text: RawValue::NULL.to_owned(),
            tree: OnceLock::new(),
        }
    }
}

impl<'a> FromSql<'a> for RawMessage {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let Json(text) = Json::from_sql(kind, raw)?;
        Ok(Self {
            text,
            tree: OnceLock::new(),
        })
    }

    accepts!(JSON, JSONB);
}

#[cfg(test)]
impl From<&Value> for RawMessage {
    fn from(tree: &Value) -> Self {
        Self {
            text: RawValue::from_string(tree.to_string()).unwrap(),
            tree: OnceLock::new(),
        }
    }
}
