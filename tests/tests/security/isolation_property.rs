//! The property that isolation is: whatever a member, a foreign member, a request with claims or a stranger runs, it sees
//! what a superuser sees with the tenant written out, changes what he would have picked, and nothing of anybody else
//! changes or shows. Random statements of every kind, in every way to run them; a failure prints the seed.

mod answer;
mod reads;
mod session;
mod world;
mod writes;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use rotator_tests::{Chance, postgrest, scaled};

use self::answer::{Answer, betrayed, role_of};
use self::reads::{Draw, put_to};
use self::session::{As, How, Kind, Session, WAYS};
use self::world::World;
use self::writes::Change;

/// What PostgreSQL itself answers to statements that views don't take.
const NOT_FOR_VIEWS: [&str; 5] = ["0A000", "42809", "42P10", "55000", "25P01"];

#[derive(Default)]
struct Log {
    /// How often something was tried, how often it came to something.
    tally: BTreeMap<&'static str, (usize, usize)>,
    /// What its own people have written into a tenant, by its number: it may well come back.
    told: BTreeMap<usize, String>,
}

fn count(log: &mut Log, what: &'static str, fruitful: bool) {
    let (tried, worked) = log.tally.entry(what).or_default();
    *tried += 1;
    *worked += usize::from(fruitful);
}

#[tokio::test]
async fn random_statements_see_and_change_one_tenant() -> Result<()> {
    let mut chance = Chance::for_test("isolation_property");
    let (world, mut sessions) = World::new(&mut chance).await?;
    let mut log = Log::default();
    for step in 0..scaled(10_000) {
        let at = chance.below(sessions.len());
        one_step(&world, &mut sessions[at], &mut chance, &mut log)
            .await
            .with_context(|| format!("step {step}"))?;
    }
    eprintln!("{:?}", log.tally);
    for (what, least) in [
        ("read", 25),
        ("touch", 2),
        ("change", 3),
        ("call", 3),
        ("again", 10),
    ] {
        let (tried, worked) = log.tally.get(what).copied().unwrap_or_default();
        ensure!(
            worked * 100 >= tried * least,
            "{what}: only {worked} of {tried} came to something, so little was tested"
        );
    }
    Ok(())
}

async fn one_step(
    world: &World,
    session: &mut Session,
    chance: &mut Chance,
    log: &mut Log,
) -> Result<()> {
    let who = session.become_somebody(chance).await?;
    let role = match who.tenant {
        Some(number) => role_of(&world.db.admin, &who, &world.tenants[number]).await?,
        None => None,
    };
    // Without a role there is no tenant either.
    let tenant = who.tenant.filter(|_| role.is_some());
    world.tell_truth(tenant, role.as_deref()).await?;
    let trusted = matches!(session.kind, Kind::Gate);
    if chance.once_in(20) && !trusted {
        let method = chance.one_of(&[
            "seqscan",
            "indexscan",
            "bitmapscan",
            "hashjoin",
            "nestloop",
            "material",
        ]);
        let to = chance.one_of(&["on", "off"]);
        session
            .client
            .batch_execute(&format!("set enable_{method} = {to}"))
            .await?;
    }
    let mut draw = Draw {
        world,
        chance,
        trusted,
    };
    match draw.chance.below(20) {
        0..=9 => {
            let template = draw.select();
            let how = *chance.one_of(&WAYS);
            read(world, session, &who, tenant, &template, how, log).await
        }
        10 if !session.prepared.is_empty() => {
            let at = chance.below(session.prepared.len());
            again(world, session, &who, tenant, at, log).await
        }
        10..=14 => {
            let change = draw.change();
            alter(world, session, &who, tenant, role.as_deref(), change, log).await
        }
        _ => {
            let sql = draw.call();
            alter(
                world,
                session,
                &who,
                tenant,
                role.as_deref(),
                Change::Any(sql),
                log,
            )
            .await
        }
    }
    .with_context(|| format!("as {} in {:?}, {role:?}", who.subject, who.tenant))
}

/// Where the rows can't be compared: nothing is named of another tenant but what the asker had said.
fn keeps_silent(world: &World, answer: &Answer, said: &str, own: Option<usize>) -> Result<()> {
    match betrayed(&answer.said, said, own, &world.owners) {
        Some(what) => bail!(
            "{what} of another tenant is in the answer:\n{}",
            answer.said
        ),
        None => Ok(()),
    }
}

/// The same rows as the truth, whatever the way.
async fn read(
    world: &World,
    session: &mut Session,
    who: &As,
    tenant: Option<usize>,
    template: &str,
    how: How,
    log: &mut Log,
) -> Result<()> {
    let template = how.form(template);
    let (asked, truth) = (put_to("rotator", &template), put_to("truth", &template));
    // Time passes between the two, and days may change with it: the second time they agree.
    for last in [false, true] {
        let answer = session.select(who, &asked, how).await?;
        if answer.error.is_some() {
            keeps_silent(world, &answer, &asked, tenant)?;
        }
        if answer.error.as_deref() == Some("42501") && tenant.is_none() {
            count(log, "read", false);
            return Ok(()); // a stranger who was granted nothing
        }
        if let Some(code) = &answer.error {
            bail!("{how:?} of {asked}: {code}: {}", answer.said);
        }
        let expected = if how == How::CopyOut {
            let truth = format!("copy ({truth}) to stdout");
            world.truth.copied(&truth).await?
        } else {
            world
                .truth
                .run(&As::superuser(), std::slice::from_ref(&truth))
                .await?
        };
        if answer.rows == expected.rows {
            count(log, "read", !answer.rows.is_empty());
            return Ok(());
        }
        ensure!(
            !last,
            "{how:?} of {asked}\ngave {:#?}\ninstead of {:#?}",
            answer.rows,
            expected.rows
        );
    }
    Ok(())
}

/// A statement that was prepared under any tenant shows the one that is in use.
async fn again(
    world: &World,
    session: &mut Session,
    who: &As,
    tenant: Option<usize>,
    at: usize,
    log: &mut Log,
) -> Result<()> {
    let prepared = session.prepared[at].clone();
    let truth = prepared.replace("rotator.", "truth.");
    for last in [false, true] {
        let answer = session.run(who, &[format!("execute p{at}")]).await?;
        if answer.error.is_some() {
            keeps_silent(world, &answer, &prepared, tenant)?;
        }
        let expected = world
            .truth
            .run(&As::superuser(), std::slice::from_ref(&truth))
            .await?;
        if answer.error.is_none() && answer.rows == expected.rows {
            count(log, "again", !answer.rows.is_empty());
            return Ok(());
        }
        ensure!(
            !last,
            "execute of {prepared}\ngave {:#?}\ninstead of {:#?}",
            answer.said,
            expected.rows
        );
    }
    Ok(())
}

/// Nothing of another tenant changes, and of the own only what a superuser would have picked.
async fn alter(
    world: &World,
    session: &mut Session,
    who: &As,
    tenant: Option<usize>,
    role: Option<&str>,
    change: Change,
    log: &mut Log,
) -> Result<()> {
    if matches!(
        (&change, &session.kind),
        (Change::CopyIn(_), Kind::Stranger)
    ) {
        // A COPY that is refused before its first line confuses the driver.
        return Ok(());
    }
    let before = world.fingerprints().await?;
    let (what, asked, answer) = match change {
        Change::Touch { sql, rows } => {
            let picked = world
                .truth
                .run(&As::superuser(), &[put_to("truth", &rows)])
                .await?;
            let sql = put_to("rotator", &sql);
            let answer = session.run(who, std::slice::from_ref(&sql)).await?;
            ensure!(
                answer.error.is_some() || answer.rows == picked.rows,
                "{sql}\ntouched {:?} instead of {:?}",
                answer.rows,
                picked.rows
            );
            ensure!(
                answer.error.is_some()
                    || picked.rows.is_empty()
                    || ["admin", "editor"].contains(&role.unwrap_or_default()),
                "{role:?} may not {sql}"
            );
            ("touch", sql, answer)
        }
        Change::Any(sql) => {
            let sql = put_to("rotator", &sql);
            let answer = session.run(who, std::slice::from_ref(&sql)).await?;
            (
                if sql.starts_with("select") {
                    "call"
                } else {
                    "change"
                },
                sql,
                answer,
            )
        }
        Change::CopyIn(lines) => {
            let sql = "copy rotator.secrets (name, interval_days) from stdin";
            (
                "change",
                format!("{sql}\n{lines}"),
                session.copy_in(who, sql, &lines).await?,
            )
        }
    };
    let told = tenant.map(|number| log.told.entry(number).or_default());
    let known = told
        .as_ref()
        .map_or(asked.clone(), |told| format!("{told}{asked}"));
    keeps_silent(world, &answer, &known, tenant).with_context(|| asked.clone())?;
    if let Some(told) = told.filter(|_| answer.error.is_none()) {
        told.push_str(&asked);
    }
    if let Some(code) = &answer.error {
        ensure!(
            postgrest::blames_the_caller(code) || NOT_FOR_VIEWS.contains(&code.as_str()),
            "{asked}: {code}: {}",
            answer.said
        );
    }
    let after = world.fingerprints().await?;
    for (owner, print) in &after {
        if *owner != tenant || tenant.is_none() {
            ensure!(
                before.get(owner) == Some(print),
                "{asked}\nchanged {owner:?}: {:?} became {print}",
                before.get(owner)
            );
        }
    }
    count(log, what, answer.error.is_none());
    // A choice that a random call made is one of the three, or there is none.
    session.forget_choice(&asked).await
}
