//! A mail scanner that opens links in a real browser: it runs scripts, waits, clicks on whatever is no field of a form,
//! presses Enter everywhere and sends forms, with the browser's checks and without. It chooses and types nothing, and
//! changes nothing. Scanners that only fetch: `link_page.rs`; other people's pages: `link_refusals.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::browser::{Browser, ENTER};

use crate::link_page::post;
use crate::outbox::Desk;

/// Whatever can be seen and is no field, has none inside and is no field's label: a click on those would choose.
const NO_FIELDS: &str = "
    const fields = 'label, input, select, textarea';
    const seen = [...document.body.querySelectorAll('*')].filter(it => it.getClientRects().length);
    return seen.filter(it => !it.closest(fields) && !it.querySelector(fields))";
/// Whatever takes keys, the page itself included.
const FOCUSABLE: &str =
    "return [document.body, ...document.querySelectorAll('a, button, input, select, textarea')]";
/// Clicks by script, on what has fields inside as well.
const CLICK_BY_SCRIPT: &str = "
    const all = [...document.querySelectorAll('*')].filter(it => !it.closest('label, input, select, textarea'));
    all.forEach(it => it.click());
    return all.length";
/// How a script sends a form: as a button does; without the browser's checks; past the page itself.
const SEND: [&str; 3] = [
    "document.forms[0].requestSubmit()",
    "document.forms[0].noValidate = true; document.querySelector('button').click()",
    "document.forms[0].submit()",
];

/// Moves the mouse to everything but fields and clicks, presses Enter wherever the focus can be, and clicks by script; gives how often.
async fn press_everything(browser: &Browser, heading: &str) -> Result<usize> {
    let mut presses = 0;
    for element in browser.elements(NO_FIELDS).await? {
        let pressed = browser.click_at(&element).await;
        pressed.context("a click led away from the page")?;
        presses += 1;
    }
    for element in browser.elements(FOCUSABLE).await? {
        let there = browser.run_on("arguments[0].focus()", &[&element]).await;
        there.context("Enter led away from the page")?;
        browser.press(ENTER).await?;
        presses += 1;
    }
    presses += usize::try_from(
        browser
            .run(CLICK_BY_SCRIPT)
            .await?
            .as_u64()
            .context("a count")?,
    )?;
    nothing_came_of_it(browser, heading).await?;
    Ok(presses)
}

/// The form is still there, and nothing in it is chosen.
async fn nothing_came_of_it(browser: &Browser, heading: &str) -> Result<()> {
    browser.reads("h1", heading).await?;
    let form = "return [document.forms.length, document.querySelectorAll(':checked').length]";
    let form = browser.run(form).await?;
    ensure!(form == serde_json::json!([1, 0]), "{form}");
    Ok(())
}

#[tokio::test]
async fn whoever_presses_everything_and_chooses_nothing_changes_nothing() -> Result<()> {
    let desk = Desk::new().await?;
    let browser = Browser::start().await?;
    // Without an interval the form has all the fields it can have.
    desk.acme
        .register(
            "api.acme.com",
            "expiry_date => now() + interval '5 days', owner_id => 'dana'",
        )
        .await?;
    let fresh = desk.link().await?;
    desk.acme.due("stripe-live").await?;
    let taken = desk.link().await?;
    ensure!(post(&taken, "action=acknowledge").await?.0 == 200);
    let before = desk.acme.fingerprint().await?;
    let sent = || -> Result<usize> { Ok(desk.sidecar.log()?.matches("\"POST\"").count()) };
    let by_hand = sent()?;

    for (link, heading, at_least) in [(&fresh, "api.acme.com", 40), (&taken, "stripe-live", 30)] {
        browser.open(link).await?;
        let presses = press_everything(&browser, heading).await?;
        ensure!(presses > at_least, "only {presses}");
        for send in SEND {
            browser.open(link).await?;
            browser.run(send).await?;
            nothing_came_of_it(&browser, heading).await?;
        }
        // Sent without a choice: the page says so, and has the form again.
        let said = "Nothing was changed: choose one of them first.";
        browser.reads("[role=alert]", said).await?;
        press_everything(&browser, heading).await?;
    }
    browser.open(&fresh).await?;
    browser.noticed().await?;
    browser.waits(Duration::from_secs(10)).await?;
    nothing_came_of_it(&browser, "api.acme.com").await?;
    let asked = browser.noticed().await?.requests;
    ensure!(
        asked.is_empty(),
        "the page did something by itself: {asked:?}"
    );
    ensure!(
        sent()? == by_hand + 4,
        "twice on each page, the browser's checks were left out"
    );
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}
