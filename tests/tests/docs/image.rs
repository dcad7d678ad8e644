//! The images, as far as they can be checked without building them: what the Dockerfile promises, that it fits the
//! workspace, and that compose.yaml, the secrets script and the entry points fit it. `make image-check` builds and
//! starts them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::{Scratch, root};
use serde_json::Value;

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// What stands behind the first line that begins so, up to the closing quote if there is one.
fn after(text: &str, start: &str) -> Result<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(start))
        .with_context(|| format!("no line begins with {start}"))?;
    Ok(line.trim_matches(['"', '\'']).to_owned())
}

/// The lines of one build target, continued lines joined, comments left out.
fn stage(dockerfile: &str, name: &str) -> Result<Vec<String>> {
    let joined = dockerfile
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\\\n", " ");
    let lines: Vec<String> = joined.lines().map(str::to_owned).collect();
    let begin = lines
        .iter()
        .position(|line| line.starts_with("FROM ") && line.ends_with(&format!(" AS {name}")))
        .with_context(|| format!("the Dockerfile has no target {name}"))?;
    Ok(lines[begin + 1..]
        .iter()
        .take_while(|line| !line.starts_with("FROM "))
        .cloned()
        .collect())
}

fn workspace_version() -> Result<String> {
    after(&read("Cargo.toml")?, "version = ")
}

#[test]
fn each_image_has_its_health_check_stop_signal_and_version() -> Result<()> {
    let dockerfile = read("Dockerfile")?;
    let version = workspace_version()?;
    for (name, signal) in [("postgres", "SIGINT"), ("sidecar", "SIGTERM")] {
        let lines = stage(&dockerfile, name)?;
        for needed in [
            "HEALTHCHECK ".to_owned(),
            format!("STOPSIGNAL {signal}"),
            "LABEL org.opencontainers.image.title=".to_owned(),
            format!("ARG VERSION={version}"),
            "ENTRYPOINT [".to_owned(),
        ] {
            ensure!(
                lines.iter().any(|line| line.starts_with(&needed)),
                "target {name} lacks {needed}"
            );
        }
    }
    let rust = after(&dockerfile, "ARG RUST=")?;
    ensure!(rust == after(&read("Cargo.toml")?, "rust-version = ")?);
    Ok(())
}

#[test]
fn the_sidecar_is_not_root_and_checks_its_own_health() -> Result<()> {
    let lines = stage(&read("Dockerfile")?, "sidecar")?;
    let user = lines
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("USER "))
        .context("no USER")?;
    let id: u32 = user.split(':').next().unwrap_or_default().parse()?;
    ensure!(id > 0, "USER {user}");
    ensure!(
        lines
            .iter()
            .any(|line| line.ends_with(r#"CMD ["rotator", "healthcheck"]"#))
    );
    Ok(())
}

#[test]
fn a_build_fetches_debian_and_crates_only_and_takes_no_secret() -> Result<()> {
    let dockerfile = read("Dockerfile")?;
    for word in ["curl", "wget", "git clone", "pip ", "npm ", "ADD ", "http"] {
        ensure!(!dockerfile.contains(word), "the Dockerfile says {word}");
    }
    let ignored = read(".dockerignore")?;
    let rules: Vec<&str> = ignored
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    ensure!(
        rules.first() == Some(&"*"),
        "what isn't named must stay outside"
    );
    ensure!(rules.contains(&"secrets") && rules.contains(&"**/.env"));
    for line in dockerfile
        .lines()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from="))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        for source in &words[1..words.len() - 1] {
            ensure!(root().join(source).exists(), "{line}: {source} is missing");
            let let_in = rules.iter().filter_map(|rule| rule.strip_prefix('!'));
            ensure!(
                let_in
                    .into_iter()
                    .any(|rule| Path::new(source).starts_with(rule)),
                "{source} is left out by .dockerignore"
            );
        }
    }
    Ok(())
}

/// compose.yaml, read by a real parser.
fn compose() -> Result<Value> {
    let program =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    for python in ["/usr/bin/python3", "python3"] {
        let output = Command::new(python)
            .args(["-c", program])
            .arg(root().join("compose.yaml"))
            .output();
        if let Ok(output) = output
            && output.status.success()
        {
            return Ok(serde_json::from_slice(&output.stdout)?);
        }
    }
    anyhow::bail!("compose.yaml can't be read: broken, or python3-yaml is missing (`make setup`)")
}

#[test]
fn compose_starts_both_images_in_order_and_closed_to_the_network() -> Result<()> {
    let compose = compose()?;
    let version = workspace_version()?;
    for (service, image, target) in [
        ("database", "rotator-postgres", "postgres"),
        ("sidecar", "rotator", "sidecar"),
    ] {
        let service = &compose["services"][service];
        ensure!(
            service["image"] == format!("{image}:{version}"),
            "{service}"
        );
        ensure!(service["build"]["target"] == target, "{service}");
        for port in service["ports"].as_array().context("ports")? {
            let local = port
                .as_str()
                .is_some_and(|port| port.starts_with("127.0.0.1:"));
            ensure!(local, "{port} is open to everybody");
        }
    }
    let sidecar = &compose["services"]["sidecar"];
    ensure!(sidecar["depends_on"]["database"]["condition"] == "service_healthy");
    ensure!(sidecar["read_only"] == true && sidecar["cap_drop"] == serde_json::json!(["ALL"]));
    ensure!(compose["services"]["database"]["tmpfs"] == serde_json::json!(["/run/rotator"]));
    Ok(())
}

#[test]
fn the_secrets_that_compose_mounts_are_made_once_and_closed() -> Result<()> {
    let folder = Scratch::new("secrets")?;
    let made = folder.join("secrets");
    let make = || -> Result<()> {
        let output = Command::new(root().join("scripts/image/secrets.sh"))
            .arg(&made)
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    make()?;
    let compose = compose()?;
    let declared = compose["secrets"].as_object().context("secrets")?;
    let mut before = Vec::new();
    for (name, secret) in declared {
        ensure!(secret["file"] == format!("./secrets/{name}"), "{secret}");
        before.push(std::fs::read_to_string(made.join(name)).with_context(|| name.clone())?);
    }
    for service in ["database", "sidecar"] {
        let service = &compose["services"][service];
        for name in service["secrets"].as_array().context("secrets")? {
            let name = name.as_str().unwrap_or_default();
            ensure!(declared.contains_key(name), "{name} is not declared");
        }
        for (variable, value) in service["environment"].as_object().context("environment")? {
            if let Some(path) = value.as_str().filter(|_| variable.ends_with("_FILE")) {
                let name = path.strip_prefix("/run/secrets/").unwrap_or_default();
                ensure!(declared.contains_key(name), "{variable}: {path}");
            }
        }
    }
    let mode =
        |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    ensure!(mode(&made)? == 0o700);
    ensure!(mode(&made.join("rotator_master_key"))? == 0o600);

    make()?;
    for ((name, _), before) in declared.iter().zip(before) {
        ensure!(
            std::fs::read_to_string(made.join(name))? == before,
            "{name} was made anew"
        );
    }
    Ok(())
}
