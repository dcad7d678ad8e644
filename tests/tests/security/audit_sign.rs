//! The two functions through which the sidecar signs: what it is given is what was sealed, the oldest first; what it
//! brings is taken once, in order, and only when it is about that block.

use anyhow::{Context, Result, ensure};
use rotator_tests::{TestDb, refused};
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fixture::{text, texts, verdict};
use crate::sealed::{events, expect_clean, seal_all};

struct Block {
    tenant: Uuid,
    number: i64,
    header: Value,
    ids: Vec<i64>,
    leaves: Vec<u8>,
}

async fn unsigned(session: &Client, most: i32) -> Result<Vec<Block>> {
    let rows = session
        .query("select * from rotator.unsigned_audit_blocks($1)", &[&most])
        .await?;
    Ok(rows
        .iter()
        .map(|row| Block {
            tenant: row.get(0),
            number: row.get(1),
            header: row.get(2),
            ids: row.get(3),
            leaves: row.get(4),
        })
        .collect())
}

impl Block {
    fn text(&self, key: &str) -> Result<&str> {
        self.header[key]
            .as_str()
            .with_context(|| format!("{key} in {}", self.header))
    }

    async fn note(&self, admin: &Client) -> Result<String> {
        let body = format!(
            "select rotator_internal.audit_note_body('{}', {}, decode('{}', 'hex'))",
            self.tenant,
            self.number,
            self.text("hash")?
        );
        Ok(format!(
            "{}\n\u{2014} rotator.example AAAA\n",
            text(admin, &body).await?
        ))
    }

    async fn record(&self, session: &Client, note: &str) -> Result<bool, tokio_postgres::Error> {
        let copies = vec!["file".to_owned()];
        session
            .query_one(
                "select rotator.record_audit_signature($1, $2, $3, 'rotator.example', $4)",
                &[&self.tenant, &self.number, &note, &copies],
            )
            .await
            .map(|row| row.get(0))
    }
}

async fn sealed() -> Result<(TestDb, Client)> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
    }
    for round in 0..3 {
        seal_all(&db).await?;
        let both = format!(
            "{}; {}",
            events("x", 4 + round),
            events("y", 2).replace("'acme'", "'beta'")
        );
        db.admin.batch_execute(&both).await?;
    }
    seal_all(&db).await?;
    let sidecar = db
        .connect_as(&db.login_role("sidecar", &["rotator_sidecar"]).await?)
        .await?;
    Ok((db, sidecar))
}

#[tokio::test]
async fn it_is_given_what_was_sealed_the_oldest_first() -> Result<()> {
    let (db, sidecar) = sealed().await?;
    let blocks = unsigned(&sidecar, 100).await?;
    let expected = texts(&db.admin, "select tenant_id || ' ' || block_id from rotator.audit_blocks order by sealed_at, tenant_id, block_id").await?;
    let given: Vec<String> = blocks
        .iter()
        .map(|block| format!("{} {}", block.tenant, block.number))
        .collect();
    ensure!(
        given == expected && given.len() >= 6,
        "{given:?} {expected:?}"
    );
    let stored = "select jsonb_build_object('events', events, 'first_id', first_id, 'last_id', last_id, 'root', root, 'previous', previous,
        'below', below, 'next', next, 'hash', hash, 'tenant_id', tenant_id, 'number', block_id,
        'sealed_at', (extract(epoch from sealed_at) * 1000000)::bigint) from rotator.audit_blocks where tenant_id = $1 and block_id = $2";
    for block in &blocks {
        let row = db
            .admin
            .query_one(stored, &[&block.tenant, &block.number])
            .await?;
        ensure!(row.get::<_, Value>(0) == block.header, "{}", block.header);
        ensure!(block.leaves.len() == 32 * block.ids.len() && block.ids.is_sorted());
        ensure!(
            block.header["events"] == block.ids.len() && block.header["first_id"] == block.ids[0]
        );
        let root = "select encode(rotator_internal.audit_root($1), 'hex')";
        let root: String = db.admin.query_one(root, &[&block.leaves]).await?.get(0);
        ensure!(root == block.text("root")?);
    }
    ensure!(unsigned(&sidecar, 2).await?.len() == 2);
    for wrong in ["0", "1001", "null"] {
        ensure!(
            verdict(
                &sidecar,
                &format!("select rotator.unsigned_audit_blocks({wrong})")
            )
            .await?
                == "22023",
            "{wrong}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_signature_is_taken_once_in_order_and_for_its_block_alone() -> Result<()> {
    let (db, sidecar) = sealed().await?;
    let blocks = unsigned(&sidecar, 100).await?;
    let second = blocks
        .iter()
        .find(|block| block.number == 2)
        .context("two blocks")?;
    refused(
        second
            .record(&sidecar, &second.note(&db.admin).await?)
            .await,
        "PT409",
    )?;
    for block in &blocks {
        let note = block.note(&db.admin).await?;
        let other = &blocks[if std::ptr::eq(block, &blocks[0]) {
            1
        } else {
            0
        }];
        for wrong in [
            other.note(&db.admin).await?,
            note.replace("rotator.example", "another.example"),
            note.replace("\n\n", "\n"),
            format!(" {note}"),
            format!("{note}{}", " ".repeat(10_000)),
            String::new(),
        ] {
            refused(block.record(&sidecar, &wrong).await, "22023")?;
        }
        ensure!(block.record(&sidecar, &note).await?, "recorded");
        ensure!(
            block.record(&sidecar, &note).await?,
            "a repeat changes nothing"
        );
        ensure!(
            !block
                .record(&sidecar, &note.replace("AAAA", "BBBB"))
                .await?,
            "another note was first"
        );
    }
    ensure!(unsigned(&sidecar, 100).await?.is_empty());
    ensure!(text(&db.admin, "select bool_and(note like '%AAAA%' and key_name = 'rotator.example' and copies = array['file']) from rotator.audit_blocks").await? == "t");
    let verdict = expect_clean(&db.admin, 0).await?;
    ensure!(
        verdict.detail == format!("{0} blocks, {0} of them signed", blocks.len()),
        "{verdict:?}"
    );
    db.admin.batch_execute(&events("later", 1)).await?;
    seal_all(&db).await?;
    ensure!(unsigned(&sidecar, 100).await?.len() == 1);
    let nowhere = Block {
        number: 99,
        ..unsigned(&sidecar, 1).await?.pop().context("one")?
    };
    refused(nowhere.record(&sidecar, "x").await, "PT404")?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_records_signatures() -> Result<()> {
    let (db, _) = sealed().await?;
    let operator = db
        .connect_as(
            &db.login_role("operator", &["rotator_admin", "rotator_auditor"])
                .await?,
        )
        .await?;
    for call in [
        "select rotator.unsigned_audit_blocks()",
        "select rotator.record_audit_signature('00000000-0000-0000-0000-000000000000', 1, 'n', 'k')",
        "insert into rotator.audit_blocks (block_id) values (1)",
    ] {
        ensure!(verdict(&operator, call).await? != "ok", "{call}");
    }
    Ok(())
}
