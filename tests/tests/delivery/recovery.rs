//! A worker that is lost loses its lease, never the notification: it is taken again under the same id, and what the
//! lost one still had to say counts no more.

use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::smtp::Server;
use rotator_tests::{Sidecar, scalar, until};

use crate::seed::{Acme, SOON};
use crate::slack::{link, sidecar};

/// From now on a delivery that succeeded can't be recorded as sent: whoever tries waits for as long as the test's
/// session holds its lock.
const HOLD_SENT: &str = "
    select pg_advisory_lock(4711);
    create function public.hold() returns trigger language plpgsql as $$
    begin
        perform pg_advisory_xact_lock(4711);
        return new;
    end $$;
    create trigger hold before update on rotator_internal.notification
        for each row when (new.state = 'sent') execute function public.hold()";

const HELD: &str = "select count(*) from pg_locks
    where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())";

#[tokio::test]
async fn killed_between_send_and_complete_it_is_sent_again_under_the_same_id() -> Result<()> {
    let (acme, mail) = (Acme::new().await?, Server::start().await?);
    let url = mail.url();
    let settings = [
        ("ROTATOR_SMTP_URL", url.as_str()),
        ("ROTATOR_EMAIL_FROM", "rotator@acme.example"),
    ];
    let mut first = Sidecar::start(&acme.db, &settings).await?;
    acme.contact("email", "dana@acme.example").await?;
    let secret = acme.due("stripe-live").await?;
    acme.db.admin.batch_execute(HOLD_SENT).await?;
    acme.tick().await?;

    mail.received(1, SOON).await?;
    until(SOON, "the sidecar to report", async || {
        Ok(scalar::<i64>(&acme.db.admin, HELD, &[]).await? == 1)
    })
    .await?;
    first.kill().await?;
    acme.db
        .admin
        .batch_execute(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted
                and database = (select oid from pg_database where datname = current_database());
             select pg_advisory_unlock(4711);
             drop trigger hold on rotator_internal.notification",
        )
        .await?;
    let lost = acme.becomes(secret, "leased").await?;
    ensure!(lost.attempts == 1, "{lost:?}");

    let _second = Sidecar::start(&acme.db, &settings).await?;
    acme.end_leases().await?;
    let sent = acme.becomes(secret, "sent").await?;
    ensure!(sent.id == lost.id && sent.attempts == 2, "{sent:?}");
    ensure!(acme.outcomes(secret).await? == ["lost", "sent"]);
    let mails = mail.received(2, SOON).await?;
    ensure!(
        mails[0].headers["message-id"] == mails[1].headers["message-id"],
        "a mailbox can tell that it is the same: {mails:?}"
    );
    ensure!(mails[0].headers["message-id"].contains(&sent.id.to_string()));
    Ok(())
}

#[tokio::test]
async fn a_lease_that_has_not_run_out_is_respected() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::Never);
    let mut first = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("held").await?;
    acme.tick().await?;
    slack.received(1, SOON).await?;
    first.kill().await?;

    let _second = sidecar(&acme, &slack).await?;
    let other = acme.due("another").await?;
    acme.tick().await?;
    acme.becomes(other, "sent").await?;
    let held = acme.notification(secret).await?;
    ensure!(
        held.state == "leased" && held.attempts == 1,
        "nobody knows yet that it is lost: {held:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_a_worker_says_after_it_lost_its_lease_counts_no_more() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    // Were this counted, the notification would be dead.
    slack.answer(Answer::After(
        Duration::from_secs(2),
        Box::new(Answer::NotOk("is_archived")),
    ));
    let slow = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    slack.received(1, SOON).await?;
    slow.signal(libc::SIGSTOP)?;

    let _quick = sidecar(&acme, &slack).await?;
    acme.end_leases().await?;
    let sent = acme.becomes(secret, "sent").await?;
    slow.signal(libc::SIGCONT)?;
    slow.logged(
        Duration::from_secs(30),
        "somebody else has claimed it since",
    )
    .await?;

    let after = acme.notification(secret).await?;
    ensure!(after.state == "sent" && after.attempts == 2, "{after:?}");
    ensure!(
        after.provider_message_id == sent.provider_message_id
            && after.last_error == sent.last_error
    );
    ensure!(acme.outcomes(secret).await? == ["lost", "sent"]);
    Ok(())
}

#[tokio::test]
async fn every_attempts_link_stays_good() -> Result<()> {
    let (acme, slack) = (Acme::new().await?, StandIn::start().await?);
    slack.answer(Answer::Status(500));
    let _sidecar = sidecar(&acme, &slack).await?;
    acme.contact("slack", "C0DEPLOYS1").await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "retry").await?;
    acme.end_waiting().await?;
    acme.becomes(secret, "sent").await?;

    let requests = slack.requests();
    let (first, second) = (link(&requests[0])?, link(&requests[1])?);
    ensure!(first != second, "each attempt has its own token");
    for link in [first, second] {
        let page = rotator_tests::sidecar::http().get(&link).send().await?;
        ensure!(
            page.status() == 200,
            "a 500 may have been delivered all the same"
        );
    }
    Ok(())
}
