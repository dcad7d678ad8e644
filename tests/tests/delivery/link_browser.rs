//! The page behind a link in a real browser: people choose and confirm, by mouse or keyboard, on a phone, without scripts,
//! over plain http inside a company; and no page asks anybody else for anything, or makes the browser complain.
//! Scanners that press its buttons: `link_scanner.rs`. What a form does: `link_actions.rs`.

use anyhow::{Result, ensure};
use rotator_tests::browser::{Browser, ENTER, TAB};
use rotator_tests::{Sidecar, scalar, until};
use serde_json::Value;

use crate::link_actions::{alert, snoozed};
use crate::outbox::{Desk, Outbox};
use crate::seed::{Acme, SOON};

/// Clicks on the words beside a choice.
async fn choose(browser: &Browser, action: &str) -> Result<()> {
    browser
        .click(&format!("label:has(input[value={action}])"))
        .await
}

async fn confirm(browser: &Browser, heading: &str) -> Result<()> {
    browser.click("button").await?;
    browser.reads("h1", heading).await
}

#[tokio::test]
async fn people_choose_say_why_and_confirm() -> Result<()> {
    // Without TLS a browser doesn't say from where a form comes, unless it comes from this machine.
    let (acme, outbox) = (Acme::in_zone("Europe/Berlin").await?, Outbox::new()?);
    acme.contact("console", "dana's desk").await?;
    let settings = [
        ("ROTATOR_PUBLIC_URL", "http://rotator.test"),
        ("ROTATOR_CONSOLE_OUTBOX", &outbox.setting()),
    ];
    let sidecar = Sidecar::start(&acme.db, &settings).await?;
    let browser = Browser::with_host("rotator.test", &sidecar.address).await?;
    let desk = Desk {
        acme,
        outbox,
        sidecar,
    };
    let with = "expiry_date => now() + interval '5 days', owner_id => 'dana'";
    let secret = desk.acme.register("api.acme.com", with).await?;
    let link = desk.link().await?;
    browser.open(&link).await?;
    choose(&browser, "acknowledge").await?;
    browser.click("#note").await?;
    browser.press("on it").await?;
    confirm(&browser, "Acknowledged").await?;
    ensure!(
        alert(&desk.acme, secret).await? == ("acknowledged".to_owned(), Some("dana".to_owned()))
    );

    browser.open(&link).await?;
    choose(&browser, "rotated").await?;
    confirm(&browser, "api.acme.com").await?;
    let missing = "Nothing was changed: enter the new expiry date as well.";
    browser.reads("[role=alert]", missing).await?;
    choose(&browser, "rotated").await?;
    browser.press(&format!("{TAB}07012031")).await?;
    confirm(&browser, "Marked as rotated").await?;
    let expires =
        "select to_char(expiry_date, 'YYYY-MM-DD HH24:MI TZ') from rotator.secrets where id = $1";
    let expires: String = scalar(&desk.acme.operator, expires, &[&secret]).await?;
    ensure!(expires == "2031-06-30 22:00 UTC", "{expires}");

    let other = desk.acme.register("ldap", with).await?;
    browser.open(&desk.link().await?).await?;
    choose(&browser, "snooze").await?;
    browser.click("#note").await?;
    browser.press("the vendor is away").await?;
    confirm(&browser, "Snoozed").await?;
    let (until, why) = snoozed(&desk.acme, other).await?;
    ensure!(why.as_deref() == Some("the vendor is away"), "{why:?}");
    ensure!(until.is_some_and(|until| until.ends_with(" 08:00")));
    Ok(())
}

/// Goes on to what the selector names, and sees on the way where the focus is.
async fn tab_to(browser: &Browser, selector: &str) -> Result<()> {
    for _ in 0..12 {
        browser.press(TAB).await?;
        let found = browser
            .run(&format!(
                "const at = document.activeElement;
                 const shown = getComputedStyle(at).outlineStyle !== 'none' || at.type === 'date';
                 return [at.matches('{selector}'), shown]"
            ))
            .await?;
        ensure!(found[1] == Value::Bool(true), "one sees where the focus is");
        if found[0] == Value::Bool(true) {
            return Ok(());
        }
    }
    anyhow::bail!("no key leads to {selector}")
}

#[tokio::test]
async fn keys_suffice_and_no_page_needs_scripts() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let browser = Browser::start().await?;
    browser.narrow(360).await?;
    browser.turn_scripts_off().await?;

    browser.open(&link).await?;
    tab_to(&browser, "[value=acknowledge]").await?;
    browser.press(" ").await?;
    tab_to(&browser, "#note").await?;
    browser.press("on my way").await?;
    tab_to(&browser, "button").await?;
    browser.press(ENTER).await?;
    browser.reads("h1", "Acknowledged").await?;
    ensure!(alert(&desk.acme, secret).await?.0 == "acknowledged");

    browser.open(&link).await?;
    tab_to(&browser, "[value=rotated]").await?;
    browser.press(&format!(" {ENTER}")).await?;
    browser.reads("h1", "Marked as rotated").await?;
    ensure!(alert(&desk.acme, secret).await?.0 == "resolved");
    Ok(())
}

/// The page that is open makes nobody complain and asks nobody else, and fits on a phone.
async fn is_quiet_and_fits(browser: &Browser, desk: &Desk, heading: &str) -> Result<()> {
    browser.reads("h1", heading).await?;
    for width in [320, 360] {
        browser.narrow(width).await?;
        let wide = browser
            .run("return document.documentElement.scrollWidth")
            .await?;
        ensure!(
            wide == width,
            "{heading}: {wide} wide on a screen of {width}"
        );
    }
    let name: String = heading.chars().filter(|c| *c != ' ').take(24).collect();
    browser.picture(&name).await?;
    let mut noticed = browser.noticed().await?;
    // That its own answer is a refusal.
    noticed
        .complaints
        .retain(|line| !line.contains("Failed to load resource: the server responded with a"));
    ensure!(noticed.complaints.is_empty(), "{heading}: {noticed:?}");
    let ours = desk.sidecar.url("/a/");
    ensure!(
        noticed.requests.iter().all(|url| url.starts_with(&ours)),
        "{heading}: {noticed:?}"
    );
    Ok(())
}

#[tokio::test]
async fn every_page_fits_a_phone_and_neither_asks_others_nor_breaks_its_policy() -> Result<()> {
    let desk = Desk::new().await?;
    let name = "a-name-without-any-place-to-break-it-".repeat(4);
    let with = "expiry_date => now() + interval '5 days', owner_id => 'dana', provider_type => 'stripe',
        environment => 'production', priority => 'P1', purpose => 'Takes money: https://wiki.acme.example/' || repeat('x', 90)";
    desk.acme.register(&name, with).await?;
    let link = desk.link().await?;
    let browser = Browser::start().await?;
    let send = async |action: &str| {
        let script = format!(
            "document.querySelector('[value={action}]').checked = true;
             const next = document.querySelector('#next');
             if (next) next.value = '2031-07-01';
             document.querySelector('button').click()"
        );
        browser.run(&script).await
    };

    browser.narrow(360).await?;
    browser.open(&link).await?;
    is_quiet_and_fits(&browser, &desk, &name).await?;
    browser.run("document.forms[0].submit()").await?;
    let refused = "Nothing was changed: choose one of them first.";
    browser.reads("[role=alert]", refused).await?;
    let at_once = "return document.querySelector('[role=alert]').getBoundingClientRect().bottom < innerHeight";
    ensure!(
        browser.run(at_once).await? == Value::Bool(true),
        "one has to look for what was wrong"
    );
    browser.picture("refused").await?;
    is_quiet_and_fits(&browser, &desk, &name).await?;
    send("snooze").await?;
    is_quiet_and_fits(&browser, &desk, "Snoozed").await?;
    browser.open(&link).await?;
    is_quiet_and_fits(&browser, &desk, &name).await?;
    send("acknowledge").await?;
    is_quiet_and_fits(&browser, &desk, "Acknowledged").await?;

    // Another site's page sends the form: only a browser tells the truth about where it comes from.
    let before = desk.acme.fingerprint().await?;
    let theirs =
        format!("<form method=post action={link}><input name=action value=rotated></form>");
    browser.open(&format!("data:text/html,{theirs}")).await?;
    browser.run("document.forms[0].submit()").await?;
    is_quiet_and_fits(&browser, &desk, "This form came from another site").await?;
    ensure!(desk.acme.fingerprint().await? == before);

    browser.open(&link).await?;
    send("rotated").await?;
    is_quiet_and_fits(&browser, &desk, "Marked as rotated").await?;
    for (path, heading) in [
        (link, "This link is no longer valid"),
        (desk.sidecar.url("/a/unknown"), "There is nothing here"),
        (
            desk.sidecar.url("/a/test"),
            "Links from your notifications reach rotator",
        ),
    ] {
        browser.open(&path).await?;
        is_quiet_and_fits(&browser, &desk, heading).await?;
    }

    // And it would have been noticed.
    browser
        .run(
            "const page = document.createElement('p');
             page.innerHTML = '<img src=http://elsewhere.test/x.png><b style=\"color: red\">x</b>';
             document.body.append(page);
             const script = document.createElement('script');
             script.textContent = 'document.title = \"ran\"';
             document.body.append(script)",
        )
        .await?;
    let mut noticed = browser.noticed().await?;
    until(SOON, "the browser to complain", async || {
        let more = browser.noticed().await?;
        noticed.complaints.extend(more.complaints);
        noticed.requests.extend(more.requests);
        let complains = |about: &str| noticed.complaints.iter().any(|line| line.contains(about));
        Ok(complains("img-src")
            && complains("style-src")
            && complains("script-src")
            && noticed
                .requests
                .iter()
                .any(|url| url.contains("elsewhere.test")))
    })
    .await?;
    let title = browser.run("return document.title").await?;
    ensure!(title != "ran", "{noticed:?}");
    Ok(())
}
