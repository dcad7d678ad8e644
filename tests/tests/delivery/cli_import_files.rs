//! Files as they come: encodings, separators, headers that can't be meant, and what is hostile on purpose.

use anyhow::{Result, ensure};
use rotator_tests::{Cli, Role, scalar};

use crate::cli_secrets::refused;
use crate::seed::Acme;

async fn editor() -> Result<(Acme, Role)> {
    let acme = Acme::new().await?;
    let editor = acme.db.member("acme", "editor").await?;
    Ok((acme, editor))
}

async fn names(acme: &Acme) -> Result<Vec<String>> {
    let rows = acme
        .operator
        .query(
            "select name from rotator.secrets order by name collate \"C\"",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn what_is_certain_is_read_and_what_is_ambiguous_is_named() -> Result<()> {
    let (acme, editor) = editor().await?;
    let import = async |name: &str, more: &[&str], bytes: &[u8]| {
        let arguments: Vec<&str> = ["secrets", "import", name]
            .iter()
            .chain(more)
            .copied()
            .collect();
        Cli::new(&acme.db, &editor, &arguments)?
            .file(name, bytes)?
            .run()
            .await
    };
    let text = |name: &str| format!("name;expires\r\n{name};2031-01-31\r\n");
    let wide = |name: &str, convert: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}"
            .encode_utf16()
            .chain(text(name).encode_utf16())
            .flat_map(convert)
            .collect()
    };
    let latin = |name: &str| -> Vec<u8> {
        text(name)
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap_or(0x80))
            .collect()
    };
    for (bytes, more) in [
        (format!("\u{feff}{}", text("größe 1")).into_bytes(), &[][..]),
        (wide("größe 2", u16::to_le_bytes), &[]),
        (wide("größe 3", u16::to_be_bytes), &[]),
        (latin("größe 4"), &["--encoding", "latin1"]),
        (latin("größe 5 €"), &["--encoding", "windows-1252"]),
        (text("größe 6").replace(';', "\t").into_bytes(), &[]),
    ] {
        let printed = import("a.csv", more, &bytes).await?;
        ensure!(
            printed.code == 0 && printed.stdout.starts_with("created 1,"),
            "{printed:?}"
        );
    }
    let expected: Vec<String> = (1..=6)
        .map(|n| format!("größe {n}{}", if n == 5 { " €" } else { "" }))
        .collect();
    ensure!(names(&acme).await? == expected, "{:?}", names(&acme).await?);

    // A byte that is no UTF-8 could be anything: its row is left out, and what to do is said.
    let mixed = [latin("größe 7"), text("plain").into_bytes()[14..].to_vec()].concat();
    let printed = import("b.csv", &[], &mixed).await?;
    ensure!(
        printed.code == 7 && printed.stdout.starts_with("created 1,"),
        "{printed:?}"
    );
    ensure!(
        printed.stderr.contains("line 2: cell 1 is not valid UTF-8"),
        "{printed:?}"
    );
    ensure!(
        printed.stderr.contains("--encoding windows-1252") && printed.stderr.contains("iconv"),
        "{printed:?}"
    );
    let header = import("c.csv", &[], b"name,gr\xf6\xdfe\nx,1\n").await?;
    refused(&header, 1, "UTF-8", "--encoding")?;
    let unmarked: Vec<u8> = text("x")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    refused(
        &import("d.csv", &[], &unmarked).await?,
        1,
        "NUL",
        "--encoding utf-16le",
    )?;
    let contradicting = import(
        "e.csv",
        &["--encoding", "latin1"],
        &wide("x", u16::to_le_bytes),
    )
    .await?;
    refused(&contradicting, 1, "utf-16le", "--encoding")?;
    Ok(())
}

#[tokio::test]
async fn rows_that_can_not_be_meant_are_named_and_the_rest_goes_in() -> Result<()> {
    let (acme, editor) = editor().await?;
    let mut csv = b"name,expires,purpose,\n".to_vec();
    csv.extend(b"one,2031-01-31,\"two\nlines\",\n"); // 2 and 3
    csv.extend(b"a column too many,2031-01-31,x,,more\n"); // 4
    csv.extend(b"under no name,2031-01-31,x,y\n"); // 5
    csv.extend(b"ragged,2031-01-31\n"); // 6
    csv.extend(b"nul,2031-01-31,a\0b,\n"); // 7
    csv.extend(b"'=formula,2031-01-31,,\n"); // 8
    csv.extend(b"long,2031-01-31,"); // 9
    csv.extend(std::iter::repeat_n(b'x', 3_000_000));
    csv.extend(b",\nopen,2031-01-31,\"never closed,\nlast,2031-01-31,,\n"); // 10, 11
    let printed = Cli::new(&acme.db, &editor, &["secrets", "import", "a.csv"])?
        .file("a.csv", &csv)?
        .run()
        .await?;
    ensure!(printed.code == 7, "{printed:?}");
    for (line, part) in [
        (4, "5 cells where the header has 4 columns"),
        (5, "without a name"),
        (6, "2 cells"),
        (7, "NUL"),
        (9, "longer than 1 MiB"),
        (10, "never closed"),
    ] {
        let start = format!("line {line}");
        let found = printed.stderr.lines().find(|text| text.starts_with(&start));
        ensure!(
            found.is_some_and(|text| text.contains(part)),
            "{start}: {:?}",
            printed.stderr
        );
    }
    ensure!(
        printed.stdout == "created 3, updated 0, unchanged 0, failed 6\n",
        "{printed:?}"
    );
    ensure!(
        names(&acme).await? == ["=formula", "last", "one"],
        "{:?}",
        names(&acme).await?
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_file_is_refused_before_anything_is_sent() -> Result<()> {
    let (acme, editor) = editor().await?;
    let good: String = (0..3000)
        .map(|n| format!("{{\"name\": \"n{n}\", \"expiry_date\": \"2031-01-31\"}},\n"))
        .collect();
    let cli = Cli::new(&acme.db, &editor, &["secrets", "import", "a.json"])?;
    let printed = cli
        .file("a.json", format!("[{good}{{\"name\" 1}}]").as_bytes())?
        .run()
        .await?;
    refused(&printed, 1, "line 3001, column 9", "Correct")?;
    ensure!(names(&acme).await?.is_empty());
    // What comes through a pipe can be read only once: what went in before stays, and that is said.
    let printed = Cli::new(&acme.db, &editor, &["secrets", "import", "-"])?
        .input(&format!("[{good}{{\"name\" 1}}]"))
        .run()
        .await?;
    ensure!(
        printed.code == 1 && printed.stderr.contains("3000 rows were done"),
        "{printed:?}"
    );
    ensure!(names(&acme).await?.len() == 3000);
    for (header, part) in [
        ("name,name\n", "both mean name"),
        ("name,Owner,owner_id\n", "both mean"),
        ("a,b\n", "not a field"),
    ] {
        let cli = Cli::new(&acme.db, &editor, &["secrets", "import", "a.csv"])?;
        refused(
            &cli.file("a.csv", header.as_bytes())?.run().await?,
            1,
            part,
            "",
        )?;
    }
    let cli = Cli::new(&acme.db, &editor, &["secrets", "import", "a.csv"])?;
    let printed = cli.file("a.csv", b"name,expires\r\n")?.run().await?;
    ensure!(
        printed.code == 0 && printed.stderr.contains("no rows"),
        "{printed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn two_imports_of_one_file_at_once_agree() -> Result<()> {
    let (acme, editor) = editor().await?;
    let rows: String = (0..2500)
        .map(|n| {
            format!(
                "n{n},2031-01-31,{}\n",
                if n % 2 == 0 {
                    format!("x-{n}")
                } else {
                    String::new()
                }
            )
        })
        .collect();
    let csv = format!("name,expires,external_id\n{rows}");
    let reversed: String = rows.lines().rev().map(|line| format!("{line}\n")).collect();
    let backwards = format!("name,expires,external_id\n{reversed}");
    let run = async |csv: &str| {
        Cli::new(&acme.db, &editor, &["secrets", "import", "a.csv"])?
            .file("a.csv", csv.as_bytes())?
            .run()
            .await
    };
    let (one, two, three) = tokio::join!(run(&csv), run(&csv), run(&backwards));
    for printed in [one?, two?, three?] {
        ensure!(
            printed.code == 0 && printed.stdout.contains("failed 0"),
            "{printed:?}"
        );
    }
    let count: i64 = scalar(&acme.operator, "select count(*) from rotator.secrets", &[]).await?;
    ensure!(count == 2500);
    Ok(())
}
