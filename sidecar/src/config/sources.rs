//! Where settings come from: the process environment, then `.env` in the working directory, then a TOML file. The
//! first that has a value wins. In each, `NAME_FILE` names a file whose contents are the value (a mounted secret).
//!
//! An unknown name is an error in `.env` and the TOML file. In the environment it is an error only when it looks like
//! a typo: Kubernetes injects `ROTATOR_PORT` and friends next to a service called "rotator".
//! Elsewhere: the names (`names.rs`), what values must look like (`mod.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::names::{self, CONFIG, PREFIX};

/// Where a value was found, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    DotEnv,
    Toml(PathBuf),
}

impl Origin {
    /// How a user would write this key there.
    pub fn spell(&self, key: &str) -> String {
        match self {
            Self::Environment => format!("{PREFIX}{key}"),
            Self::DotEnv => format!("{PREFIX}{key} in .env"),
            Self::Toml(path) => format!("{} in {}", key.to_lowercase(), path.display()),
        }
    }
}

/// One place with its values, keys without prefix and in upper case.
struct Layer {
    origin: Origin,
    values: BTreeMap<String, String>,
}

/// All places, most important first.
pub struct Sources {
    layers: Vec<Layer>,
    /// Unknown variables of the environment that look like nobody's typo; for a log line.
    pub ignored: Vec<String>,
}

impl Sources {
    /// Reads the process environment, `./.env`, and the TOML file that `ROTATOR_CONFIG` names (or `./rotator.toml`).
    pub fn read() -> Result<Self, ConfigError> {
        let mut environment = Vec::new();
        for (key, value) in std::env::vars_os() {
            let Ok(key) = key.into_string() else { continue };
            if !key.starts_with(PREFIX) {
                continue;
            }
            let value = value.into_string().map_err(|_| {
                ConfigError::invalid(&key, "it is not valid UTF-8", "set it to plain text")
            })?;
            environment.push((key, value));
        }
        let dot_env = read_dot_env(Path::new(".env"))?;
        Self::assemble(environment, dot_env, Path::new("rotator.toml"))
    }

    /// The same from given pairs, with full variable names.
    pub fn assemble(
        environment: Vec<(String, String)>,
        dot_env: Vec<(String, String)>,
        default_toml: &Path,
    ) -> Result<Self, ConfigError> {
        let mut ignored = Vec::new();
        let environment = layer(Origin::Environment, environment, &mut ignored)?;
        let dot_env = layer(Origin::DotEnv, dot_env, &mut ignored)?;
        let mut layers = vec![environment, dot_env];
        let named = layers
            .iter()
            .find_map(|layer| layer.values.get(CONFIG))
            .map(PathBuf::from);
        let toml = match named {
            Some(path) => Some(read_toml(&path, true)?),
            None => default_toml
                .exists()
                .then(|| read_toml(default_toml, false))
                .transpose()?,
        };
        layers.extend(toml);
        Ok(Self { layers, ignored })
    }

    /// The value of a setting and where it was found. Empty counts as not set.
    pub fn get(&self, key: &str) -> Result<Option<(String, Origin)>, ConfigError> {
        let file_key = format!("{key}_FILE");
        for layer in &self.layers {
            let direct = layer.values.get(key).filter(|value| !value.is_empty());
            let file = layer
                .values
                .get(&file_key)
                .filter(|value| !value.is_empty());
            match (direct, file) {
                (Some(_), Some(_)) => {
                    return Err(ConfigError::invalid(
                        &layer.origin.spell(key),
                        &format!("{} is set as well", layer.origin.spell(&file_key)),
                        "keep one of the two",
                    ));
                }
                (Some(value), None) => return Ok(Some((value.clone(), layer.origin.clone()))),
                (None, Some(path)) => {
                    let value = read_value_file(&layer.origin.spell(&file_key), path)?;
                    return Ok(Some((value, layer.origin.clone())));
                }
                (None, None) => {}
            }
        }
        Ok(None)
    }
}

fn layer(
    origin: Origin,
    pairs: Vec<(String, String)>,
    ignored: &mut Vec<String>,
) -> Result<Layer, ConfigError> {
    let mut values = BTreeMap::new();
    for (variable, value) in pairs {
        let Some(key) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if known(key) {
            values.insert(key.to_owned(), value);
            continue;
        }
        let nearest = names::nearest(key.strip_suffix("_FILE").unwrap_or(key));
        if origin == Origin::Environment && nearest.is_none() {
            ignored.push(variable);
        } else {
            return Err(unknown(
                &origin.spell(key),
                nearest.map(|name| format!("{PREFIX}{name}")),
            ));
        }
    }
    Ok(Layer { origin, values })
}

fn known(key: &str) -> bool {
    key == CONFIG
        || names::find(key).is_some()
        || key
            .strip_suffix("_FILE")
            .is_some_and(|key| names::find(key).is_some())
}

fn unknown(spelled: &str, nearest: Option<String>) -> ConfigError {
    ConfigError::Unknown {
        name: spelled.to_owned(),
        nearest,
    }
}

fn read_dot_env(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let unreadable = |error: dotenvy::Error| match error {
        // The library's message quotes the line, which may hold a password.
        dotenvy::Error::LineParse(..) => ConfigError::invalid(
            ".env",
            "a line is not NAME=value",
            "quote values that hold spaces, # or quotes",
        ),
        other => ConfigError::invalid(".env", &other.to_string(), "make it readable, or remove it"),
    };
    let mut pairs = Vec::new();
    for item in dotenvy::from_path_iter(path).map_err(unreadable)? {
        let (key, value) = item.map_err(unreadable)?;
        if key.starts_with(PREFIX) {
            pairs.push((key, value));
        }
    }
    Ok(pairs)
}

fn read_toml(path: &Path, named: bool) -> Result<Layer, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = if named {
            "ROTATOR_CONFIG names it; correct the path"
        } else {
            "make it readable, or remove it"
        };
        ConfigError::invalid(&shown, &error.to_string(), hint)
    })?;
    // The parser's own message quotes the line, which may hold a password: only the position is passed on.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| {
            text[..span.start.min(text.len())].lines().count().max(1)
        });
        ConfigError::invalid(
            &shown,
            &format!("not valid TOML near line {line}"),
            "write settings as name = \"value\"",
        )
    })?;
    let origin = Origin::Toml(path.to_owned());
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let key = name.to_uppercase();
        if !known(&key) || key == CONFIG || name != name.to_lowercase() {
            let nearest =
                names::nearest(key.strip_suffix("_FILE").unwrap_or(&key)).map(str::to_lowercase);
            return Err(unknown(&format!("{name} in {shown}"), nearest));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => items
                .iter()
                .filter_map(toml::Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
            _ => {
                let hint = "write it as name = \"value\", or as an array of texts";
                return Err(ConfigError::invalid(
                    &origin.spell(&key),
                    "it is not a text",
                    hint,
                ));
            }
        };
        values.insert(key, text);
    }
    Ok(Layer { origin, values })
}

/// The contents of a mounted secret without its last line end.
fn read_value_file(spelled: &str, path: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::invalid(
            spelled,
            &format!("can't read {path}: {error}"),
            "correct the path or its permissions",
        )
    })?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(ConfigError::invalid(
            spelled,
            &format!("{path} is empty"),
            "write the value into the file",
        ));
    }
    Ok(value.to_owned())
}
